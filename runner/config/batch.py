"""The `batch` section: how requests are put into batches."""

from __future__ import annotations

from pydantic import Field

from runner.config.base import LABEL, Count, Seconds, Section


class Batch(Section):
    """How requests are put into batches, with `target.mode: batch`."""

    max_requests: Count = 100_000
    """Most requests in one batch."""
    max_bytes: Count = 256_000_000
    """Largest encoded body of one batch, in bytes."""
    concurrency: Count = 2
    """Most batches being uploaded at once."""
    max_open: Count = 8
    """Most outstanding batches: being uploaded, or accepted and not yet collected."""
    label: str | None = Field(None, pattern=LABEL, max_length=64)
    """Beginning of the label of each batch; the run's name if not given."""
    timeout_s: Seconds = 600.0
    """Timeout of one whole upload, in seconds."""
