"""What the service wants things to be called, and how ours become that."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from typing import Final

LONGEST_ID: Final = 64
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NOT_IN_IDS: Final = re.compile(r"[^a-z0-9_-]+")
_NOT_IN_LABELS: Final = re.compile(r"[^a-z0-9_-]+")
_LEGIBLE: Final = 40
_DIGEST_BYTES: Final = 8
_RUN_DIGITS: Final = 10


def wire_id(custom_id: str, taken: Container[str] = ()) -> str:
    """`custom_id` where the service allows it, and else one that it allows: legible, with a digest.

    None of those `taken` in the same batch: where it would be (two ids with one digest, or an id made to
    look like another's), a number follows.
    """
    name = custom_id
    if not _ID.fullmatch(custom_id):
        encoded = custom_id.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(encoded, digest_size=_DIGEST_BYTES).hexdigest()
        legible = _NOT_IN_IDS.sub("-", custom_id.lower())[:_LEGIBLE].strip("-_") or "row"
        name = f"{legible}-{digest}"
    if name not in taken:
        return name
    number = 2
    while (other := f"{name[: LONGEST_ID - len(str(number)) - 1]}-{number}") in taken:
        number += 1
    return other


def label_of(begins: str, run_id: str, number: int) -> str:
    """The label of a batch: found again by it in the service's list, so no other run may ever have it.

    In lower case, which no service changes.
    """
    return f"{_NOT_IN_LABELS.sub('-', begins.lower())[:64]}{run_mark(run_id)}{number}"


def run_mark(run_id: str) -> str:
    """What the labels of all batches of a run have in common, and no other's has."""
    return f"-{run_id[:_RUN_DIGITS]}-"
