"""Finds out which request of a batch a refusal names."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import islice
from typing import Final

_PATH: Final = re.compile(r"\brequests?(?:\[|\.|/)(\d{1,6})(?:\]|\.|/|$)")
"""`requests[17].params.model`, `requests.17`, `/requests/17`: a path, as validators write it."""
_PATH_IN_WORDS: Final = re.compile(
    r"(?:\brequests?\[(?=\d+\])|/requests?/|\brequests?\.(?=\d+\.(?:params|custom_id)))(\d{1,6})\b"
)
"""A path inside a message, where it cannot be prose: \"a limit of 5 requests.3 more\" names none."""
_QUOTED: Final = re.compile(r"""['"`‘“]([a-z0-9][a-z0-9_-]{0,63})['"`’”]""")
_NAMED: Final = re.compile(r"custom[_ ]id\W{0,4}([a-z0-9][a-z0-9_-]{0,63})", re.IGNORECASE)


def find_offending_request(param: str | None, message: str, wire_ids: Collection[str]) -> str | None:
    """Return the id of the request that `param` or `message` names, or None if they name none or several.

    A request is named by its position in the body (`wire_ids` are in that order, and must be quick to search)
    or by its id. An id may stand in a message by chance ("model"), so it only counts in quotes or beside the
    word custom_id, and if there is no other.
    """
    for text, path in ((param or "", _PATH), (message, _PATH_IN_WORDS)):
        positions = {int(position) for position in path.findall(text)}
        if len(positions) == 1 and (position := positions.pop()) < len(wire_ids):
            return next(islice(wire_ids, position, None))
        if positions:
            return None
        for pattern in (_NAMED, _QUOTED):
            named = {str(found[1]) for found in pattern.finditer(text) if found[1] in wire_ids}
            if named:
                return named.pop() if len(named) == 1 else None
    return None
