"""The `submit` section: how requests are sent, and retried."""

from __future__ import annotations

from typing import Literal

from runner.config.base import Count, Seconds, Section


class Retry(Section):
    """How a failed POST is tried again: capped exponential backoff with full jitter.

    Failed polls wait alike, but are tried until `poll.deadline_s`.
    """

    max_attempts: Count = 8
    """POSTs of one request, before it ends `rejected` or `uncertain`."""
    base_s: Seconds = 0.5
    """The longest first wait; it doubles with every failure."""
    cap_s: Seconds = 60.0
    """The longest wait, `Retry-After` aside."""


class Submit(Section):
    """How requests are sent."""

    concurrency: Count = 200
    """POSTs in flight at once: the semaphore."""
    max_in_flight: Count = 20_000
    """Accepted jobs not yet done, POSTs in flight included."""
    retry: Retry = Retry()
    on_uncertain: Literal["hold", "resend"] = "hold"
    """A request that was perhaps accepted, and that no key protects: end it `uncertain`, or send it again
    and perhaps pay for it twice."""
