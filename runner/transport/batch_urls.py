"""URLs of batches, relative to `/batches` of the service."""

from __future__ import annotations

from urllib.parse import quote


def batch_path(batch_id: str, custom_id: str | None = None) -> str:
    """Return the path of one batch, or of one result in it. Each id is quoted and stays one segment."""
    below = "" if custom_id is None else f"/{quote(custom_id, safe='')}"
    return f"/{quote(batch_id, safe='')}{below}"


def list_query(before_id: str | None, limit: int) -> str:
    """Return the query for one page of batches: the newest ones, or those older than `before_id`."""
    before = "" if before_id is None else f"&before_id={quote(before_id, safe='')}"
    return f"?limit={limit}{before}"
