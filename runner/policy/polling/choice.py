"""Chooses the polling strategy that the config names."""

from __future__ import annotations

from runner.config.poll import Poll
from runner.policy.polling.adaptive import Adaptive
from runner.policy.polling.strategy import Exponential, Fixed, Polling


def polling(section: Poll) -> Polling:
    """Return a new strategy, as the section `poll` of the config describes it."""
    backoff = Exponential(section.interval_s, section.factor, section.max_interval_s)
    match section.strategy:
        case "fixed":
            return Fixed(section.interval_s)
        case "exponential":
            return backoff
        case "adaptive":
            return Adaptive(backoff, section.lag_target)
