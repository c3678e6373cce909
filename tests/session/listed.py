"""Rows from a list, as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """Rows from a list of request bodies."""

    def __init__(self, bodies: Sequence[bytes], block_rows: int = BLOCK_ROWS) -> None:
        self.bodies = bodies
        self.passes = 0
        """Times that the list was read from its beginning."""
        self._block_rows = block_rows

    def blocks(self) -> Iterator[list[Row]]:
        self.passes += 1
        for start in range(0, len(self.bodies), self._block_rows):
            yield [
                ListedRow(start + n, body)
                for n, body in enumerate(self.bodies[start : start + self._block_rows])
            ]

    def request(self, row: Row) -> Request:
        return Request(row.i, f"row-{row.i}", self.bodies[row.i], "m")


def listed(rows: int) -> Listed:
    """Return that many rows; the body of each holds its number."""
    return Listed([b'{"input":"%d"}' % i for i in range(rows)])


def row_of(body: bytes) -> int:
    """Return the row whose body this is, for a `listed` one."""
    return int(msgspec.json.decode(body)["input"])
