"""The `sink` section: where results go."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runner.config.base import Section


class Sink(Section):
    """Where results go."""

    dir: str = "runs"
    """The run directory is <dir>/<name>."""
    on_existing: Literal["resume", "new", "fail"] = "resume"
    """When the run directory exists: continue it, set it aside and start afresh, or refuse."""
    fsync_s: float = Field(1.0, ge=0.01)
    """A received result is on disk at most this much later."""
    store: Literal["full", "text"] = "full"
    """`full`: the response object as received. `text`: only id, status, model, text, usage and error."""
