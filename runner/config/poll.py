"""The `poll` section: how accepted jobs are followed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runner.config.base import Count, Seconds, Section


class Poll(Section):
    """How accepted jobs are followed."""

    concurrency: Count = 200
    """Most GETs in flight at once."""
    strategy: Literal["adaptive", "exponential", "fixed"] = "adaptive"
    """`adaptive` learns when jobs of each model and completion window finish, and polls at those times.
    `exponential` polls at growing intervals, `fixed` at equal ones."""
    interval_s: Seconds = 1.0
    """`fixed`: the interval, in seconds. `exponential`, and `adaptive` until it has learned: the first."""
    factor: float = Field(1.5, ge=1)
    """`exponential`, and `adaptive` until it has learned: each interval is the one before times this."""
    max_interval_s: Seconds = 30.0
    """`exponential`, and `adaptive` until it has learned: the longest interval, in seconds."""
    lag_target: float = Field(0.05, gt=0, le=1)
    """`adaptive`: target mean polling delay, as a fraction of mean completion time."""
    max_rate: float | None = Field(None, gt=0)
    """Most GETs per second; null for no limit."""
    deadline_s: Seconds = 86_400.0
    """Give up on a job this many seconds after it was accepted."""
