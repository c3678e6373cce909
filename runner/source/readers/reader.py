"""What a reader does, and which one reads a type of source."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Final, Protocol

from runner.config.source import Source as SourceSection
from runner.source.row import Row

_READERS: Final = {
    "synthetic": "runner.source.readers.synthetic:Synthetic",
    "jsonl": "runner.source.readers.json_lines:JsonLines",
}
"""Reader by `source.type`. A reader is imported when it is used, so that it may need an optional package."""


class Reader(Protocol):
    """The rows of a run, which can be read any number of times.

    A reader is made of its section of the config, and raises `InputError` if its files are missing. Its
    methods block: call them off the event loop.
    """

    @property
    def default_prompt(self) -> str | None:
        """Template for `source.prompt` if the config has none; None if rows cannot do without."""

    @property
    def numbered_rows(self) -> int | None:
        """Count of rows that differ in nothing but their number; None if rows have fields of their own."""

    def blocks(self) -> Iterator[list[Row]]:
        """Yield all rows in order, a bounded number at a time. Raises `InputError`."""

    def fingerprint(self) -> str:
        """Return a hex SHA-256 of everything that the rows are made of. Raises `InputError`."""


def open_reader(section: SourceSection) -> Reader:
    """Return the reader of this type of source. Raises `InputError` if its files are missing."""
    module, _, name = _READERS[section.type].partition(":")
    reader: Reader = getattr(import_module(module), name)(section)
    return reader
