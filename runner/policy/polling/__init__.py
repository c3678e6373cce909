"""When to look at a job next. The choice of a strategy; each has a module."""

from __future__ import annotations

from runner.config.poll import Poll
from runner.policy.polling.adaptive import Adaptive
from runner.policy.polling.strategy import Exponential, Fixed, Followed, Polling

__all__ = ["Adaptive", "Exponential", "Fixed", "Followed", "Polling", "polling"]


def polling(section: Poll) -> Polling:
    """The strategy that the config names."""
    backoff = Exponential(section.interval_s, section.factor, section.max_interval_s)
    match section.strategy:
        case "fixed":
            return Fixed(section.interval_s)
        case "exponential":
            return backoff
        case "adaptive":
            return Adaptive(backoff, section.lag_target)
