"""The `limits` section: when a run stops early."""

from __future__ import annotations

from pydantic import Field

from runner.config.base import Count, Seconds, Section


class Limits(Section):
    """When to stop early, with exit code 3; the same command continues."""

    max_s: Seconds | None = None
    """Seconds of one session, after which nothing more is sent."""
    max_cost_usd: float | None = Field(None, gt=0)
    """Of all results, by `prices`; what is in flight is counted in at the mean cost of those done."""
    max_failures: Count | None = None
    """Requests that ended other than `completed`."""
    max_outage_s: Seconds = 60.0
    """How long nothing but failures may come back: no answers, 5xx, refusals of every request as too many.
    Meanwhile one request at a time tries whether the service is back."""
    drain_s: float = Field(30.0, ge=0)
    """After a first Ctrl-C, or a limit: how long open jobs are still polled."""
