"""Parts of URLs made of ids, which may hold any character."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

_is_unreserved: Final = re.compile(r"[A-Za-z0-9_.~-]+").fullmatch
"""RFC 3986, 2.3. Most ids have no other characters, and this check takes half as long as `quote`."""


def segment(text: str) -> str:
    """Return an id as one segment of a path, or as one value of a query."""
    return text if _is_unreserved(text) else quote(text, safe="")


def batch_path(batch_id: str, custom_id: str | None = None) -> str:
    """Return the path of one batch, or of one result in it, relative to `/batches` of the service."""
    below = "" if custom_id is None else f"/{segment(custom_id)}"
    return f"/{segment(batch_id)}{below}"


def list_query(before_id: str | None, limit: int) -> str:
    """Return the query for one page of batches: the newest ones, or those older than `before_id`."""
    before = "" if before_id is None else f"&before_id={segment(before_id)}"
    return f"?limit={limit}{before}"
