"""Which request of a batch a refusal means, as far as services tell."""

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
"""The same where it cannot be prose: \"a limit of 5 requests.3 more\" names none."""
_QUOTED: Final = re.compile(r"""['"`‘“]([a-z0-9][a-z0-9_-]{0,63})['"`’”]""")
_NAMED: Final = re.compile(r"custom[_ ]id\W{0,4}([a-z0-9][a-z0-9_-]{0,63})", re.IGNORECASE)


def find_offending_request(param: str | None, message: str, wire_ids: Collection[str]) -> str | None:
    """The id of the request that `param` or `message` names; None where they name none, or several.

    By its place in the body (`wire_ids` are in that order, quick to look in), or by its id. One that stands
    in a message by chance ("model") is only believed in quotes or beside the word custom_id, and alone.
    """
    for text, path in ((param or "", _PATH), (message, _PATH_IN_WORDS)):
        places = {int(place) for place in path.findall(text)}
        if len(places) == 1 and (place := places.pop()) < len(wire_ids):
            return next(islice(wire_ids, place, None))
        if places:
            return None
        for pattern in (_NAMED, _QUOTED):
            named = {str(found[1]) for found in pattern.finditer(text) if found[1] in wire_ids}
            if named:
                return named.pop() if len(named) == 1 else None
    return None
