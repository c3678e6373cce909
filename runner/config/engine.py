"""The `engine` section: where the work is done."""

from __future__ import annotations

from typing import Literal

from runner.config.base import Count, Section


class Engine(Section):
    """Where the work is done."""

    type: Literal["local"] = "local"
    """`local`: on this machine."""
    workers: Count = 1
    """Number of processes that share the rows. `submit`, `poll` and `limits` are totals over all of them."""
