"""Where batches are found, below the address of the service."""

from __future__ import annotations

from urllib.parse import quote


def batch_path(batch_id: str, custom_id: str | None = None) -> str:
    """The path of one batch, or of one result in it, below `/batches`. Odd ids stay one segment."""
    below = "" if custom_id is None else f"/{quote(custom_id, safe='')}"
    return f"/{quote(batch_id, safe='')}{below}"


def list_query(before_id: str | None, limit: int) -> str:
    """The query for one page of batches, behind `/batches`: of those older than `before_id`."""
    before = "" if before_id is None else f"&before_id={quote(before_id, safe='')}"
    return f"?limit={limit}{before}"
