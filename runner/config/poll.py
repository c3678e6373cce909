"""The `poll` section: how accepted jobs are followed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runner.config.base import Count, Seconds, Section


class Poll(Section):
    """How jobs are followed."""

    concurrency: Count = 200
    """GETs in flight at once."""
    strategy: Literal["adaptive", "exponential", "fixed"] = "adaptive"
    """`adaptive` learns when jobs of a model and window finish, and looks then."""
    interval_s: Seconds = 1.0
    """`fixed`: the interval. `exponential`, and `adaptive` until it has learned: the first."""
    factor: float = Field(1.5, ge=1)
    """`exponential`: each interval is the last one times this."""
    max_interval_s: Seconds = 30.0
    """The longest interval of `exponential`, and of `adaptive` until it has learned."""
    lag_target: float = Field(0.05, gt=0, le=1)
    """`adaptive`: mean lag until a finished job is noticed, as a share of the mean completion time."""
    max_rate: float | None = Field(None, gt=0)
    """GETs per second, at most."""
    deadline_s: Seconds = 86_400.0
    """Give up on one job this long after it was accepted."""
