"""The `batch` section: how requests are put together in batch mode."""

from __future__ import annotations

from pydantic import Field

from runner.config.base import Count, Seconds, Section


class Batch(Section):
    """How requests are put together, with `target.mode: batch`."""

    max_requests: Count = 100_000
    """Requests in one batch, at most."""
    max_bytes: Count = 256_000_000
    """Of the whole encoded body."""
    concurrency: Count = 2
    """Batches being uploaded at once."""
    max_open: Count = 8
    """Batches accepted, or being uploaded, and not yet collected."""
    label: str | None = Field(None, pattern=r"^[a-zA-Z0-9_-]+$", max_length=64)
    """Begins the label of each batch; the run's name where not given."""
    timeout_s: Seconds = 600.0
    """One upload, whole."""
