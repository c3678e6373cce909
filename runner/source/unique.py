"""The check that the ids of a run are unique, for any number of rows in bounded memory."""

from __future__ import annotations

import hashlib
import heapq
import tempfile
from array import array
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Final, Self

CHUNK_IDS: Final = 1 << 18
"""Ids held in memory before they are sorted and spilled: 2 MB as an array, about 12 MB during the sort."""
_SPILL_BYTES: Final = 1 << 16


class Seen:
    """Collects a 64-bit digest of each id, and finds the digests that were added more than once.

    This is an external merge sort (Knuth, TAOCP vol. 3, 5.4): digests are sorted in chunks, each chunk is
    spilled to a temporary file, and one merge brings equal digests together. Different ids may share a
    digest, so the caller must read its input again and compare the ids themselves.
    """

    def __init__(self, chunk_ids: int = CHUNK_IDS) -> None:
        self._chunk_ids = chunk_ids
        self._chunk = array("Q")
        self._spills: list[BinaryIO] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spill in self._spills:
            spill.close()

    def add(self, custom_id: str) -> None:
        """Add one id. Spills a chunk to disk when it is full."""
        self._chunk.append(digest(custom_id))
        if len(self._chunk) >= self._chunk_ids:
            self._spill()

    def duplicates(self, most: int) -> frozenset[int]:
        """Return the digests that were added more than once, at most `most` of them."""
        runs = [*(_read(spill) for spill in self._spills), iter(sorted(self._chunk))]
        found: set[int] = set()
        previous = -1
        for value in heapq.merge(*runs):
            if value == previous:
                found.add(value)
                if len(found) >= most:
                    break
            previous = value
        return frozenset(found)

    def _spill(self) -> None:
        spill = tempfile.TemporaryFile(prefix="runner-ids-")  # noqa: SIM115 - closed in __exit__
        array("Q", sorted(self._chunk)).tofile(spill)
        self._spills.append(spill)
        self._chunk = array("Q")


def digest(custom_id: str) -> int:
    """Return 64 bits of a hash of `custom_id`. Among 10^9 ids any two share one with a probability of 3 %."""
    encoded = custom_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


def _read(spill: BinaryIO) -> Iterator[int]:
    """Yield the digests of one spilled chunk, in rising order."""
    spill.seek(0)
    while block := spill.read(_SPILL_BYTES):
        values = array("Q")
        values.frombytes(block)
        yield from values
