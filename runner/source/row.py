"""One row of input, as all readers hand it out."""

from __future__ import annotations

from typing import Any, Protocol


class RowError(Exception):
    """A row cannot become a request. The text says why; the caller adds where."""


class Row(Protocol):
    """A row that was read and not yet decoded.

    Reading is cheap and decoding is not: each worker process reads all rows, and decodes only its own.
    """

    @property
    def i(self) -> int:
        """Number of the row in the whole input, from 0."""

    @property
    def where(self) -> str:
        """Place of the row in words, for messages: `data.jsonl:17`."""

    def fields(self) -> dict[str, Any]:
        """Decode the row. Raises `RowError` if it is malformed."""


def kind_of(value: Any) -> str:
    """Return the kind of a decoded JSON value in words, for messages."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return kinds.get(type(value), "an object")
