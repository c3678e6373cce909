"""The `limits` section: when a run stops early."""

from __future__ import annotations

from pydantic import Field

from runner.config.base import Count, Seconds, Section


class Limits(Section):
    """When a run stops early, with exit code 3. Run the same command to continue it."""

    max_s: Seconds | None = None
    """Stop sending after this many seconds of one session; null for no limit."""
    max_cost_usd: float | None = Field(None, gt=0)
    """Stop sending when all results cost this much, in USD by `prices`. Includes an estimate for jobs in
    flight, at the mean cost of finished ones. Null for no limit."""
    max_failures: Count | None = None
    """Stop sending after this many requests ended with a status other than `completed`; null for no limit."""
    max_outage_s: Seconds = 60.0
    """Stop after this many seconds with only failures: no answer, 5xx, or every request throttled. Meanwhile
    one probe at a time checks whether the service is back."""
    drain_s: float = Field(30.0, ge=0)
    """Seconds for which outstanding jobs are still polled after the first Ctrl-C, or after a limit."""
