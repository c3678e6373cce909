"""Rows from a list, as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from runner.records import Request
from runner.source import Row, Source

BLOCK_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class ListedRow:
    """One row of a list."""

    i: int
    body: bytes

    @property
    def where(self) -> str:
        return f"rows:{self.i + 1}"

    def fields(self) -> dict[str, Any]:
        decoded: dict[str, Any] = msgspec.json.decode(self.body)
        return decoded


class Listed(Source):
    """Rows from a list of request bodies; their ids are `row-0`, `row-1`, … where none are given."""

    def __init__(
        self, bodies: Sequence[bytes], ids: Sequence[str] = (), block_rows: int = BLOCK_ROWS
    ) -> None:
        self.bodies = list(bodies)
        self.ids = list(ids) or [f"row-{i}" for i in range(len(bodies))]
        self.passes = 0
        """Times that the list was read from its beginning."""
        self._block_rows = block_rows

    def __len__(self) -> int:
        return len(self.bodies)

    def blocks(self) -> Iterator[list[Row]]:
        self.passes += 1
        for start in range(0, len(self.bodies), self._block_rows):
            stop = min(start + self._block_rows, len(self.bodies))
            yield [ListedRow(i, self.bodies[i]) for i in range(start, stop)]

    def request(self, row: Row) -> Request:
        return Request(row.i, self.ids[row.i], self.bodies[row.i], "m")

    def name(self, row: Row) -> str:
        return self.ids[row.i]


def listed(rows: int, large: Mapping[int, int] | None = None) -> Listed:
    """Return `rows` rows whose bodies hold their numbers; `large` maps some to the size of their bodies."""
    sizes = large or {}
    return Listed([b'{"input":"%d%b"}' % (i, b"x" * (sizes.get(i, 0) - 14)) for i in range(rows)])


def row_of(body: bytes) -> int:
    """Return the row whose body this is, for a `listed` one that is not large."""
    return int(msgspec.json.decode(body)["input"])
