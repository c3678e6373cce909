"""The `submit` section: how requests are sent, and how failed ones are retried."""

from __future__ import annotations

from typing import Literal

from runner.config.base import Count, Seconds, Section


class Retry(Section):
    """How a failed POST is retried: capped exponential backoff with full jitter.

    A failed poll waits in the same way, but is retried until `poll.deadline_s`.
    """

    max_attempts: Count = 8
    """Number of POSTs of one request before it ends `rejected` or `uncertain`."""
    base_s: Seconds = 0.5
    """Longest wait before the first retry, in seconds. It doubles with each failure."""
    cap_s: Seconds = 60.0
    """Longest wait before any retry, in seconds. `Retry-After` may ask for more."""


class Submit(Section):
    """How requests are sent."""

    concurrency: Count = 200
    """Most POSTs in flight at once."""
    max_in_flight: Count = 20_000
    """Most jobs in flight at once: POSTs in flight, and accepted jobs that are not done."""
    retry: Retry = Retry()
    on_uncertain: Literal["hold", "resend"] = "hold"
    """What to do with a request that may have been accepted and that no idempotency key protects. `hold`
    marks it `uncertain`; `resend` sends it again, and it may be paid for twice."""
