"""Names that the service allows: ids of requests in a batch, and labels of batches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from typing import Final

LONGEST_ID: Final = 64
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NOT_ALLOWED: Final = re.compile(r"[^a-z0-9_-]+")
_LONGEST_PREFIX: Final = 64
_LEGIBLE: Final = 40
"""Characters of an id that are kept for people to recognise it."""
_DIGEST_BYTES: Final = 8
_RUN_DIGITS: Final = 10


def wire_id(custom_id: str, taken: Container[str] = ()) -> str:
    """Return `custom_id` if the service allows it, otherwise a legible id with a digest.

    The id is none of `taken`, the ids in the same batch: where two would be equal (two ids with one digest,
    or an id made to look like another's), a number follows.
    """
    name = custom_id
    if not _ID.fullmatch(custom_id):
        encoded = custom_id.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(encoded, digest_size=_DIGEST_BYTES).hexdigest()
        legible = _NOT_ALLOWED.sub("-", custom_id.lower())[:_LEGIBLE].strip("-_") or "row"
        name = f"{legible}-{digest}"
    if name not in taken:
        return name
    number = 2
    while (other := f"{name[: LONGEST_ID - len(str(number)) - 1]}-{number}") in taken:
        number += 1
    return other


def label_of(prefix: str, run_id: str, number: int) -> str:
    """Return the label of a batch, by which it is found in the list of the service.

    No other run ever has this label. It is in lower case, which no service changes.
    """
    return f"{_NOT_ALLOWED.sub('-', prefix.lower())[:_LONGEST_PREFIX]}{run_mark(run_id)}{number}"


def run_mark(run_id: str) -> str:
    """Return what the labels of all batches of a run contain, and labels of other runs do not."""
    return f"-{run_id[:_RUN_DIGITS]}-"
