"""The `sink` section: where results are written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runner.config.base import Section


class Sink(Section):
    """Where results are written."""

    dir: str = "runs"
    """Parent directory. The run directory is `<dir>/<name>`."""
    on_existing: Literal["resume", "new", "fail"] = "resume"
    """What to do if the run directory exists. `resume` continues its run, `new` sets it aside and starts a
    new run, `fail` refuses to start."""
    fsync_s: float = Field(1.0, ge=0.01)
    """Longest time until a received result is on the disk, in seconds."""
    store: Literal["full", "text"] = "full"
    """`full`: the response object as received. `text`: only its id, status, model, text, usage and error."""
