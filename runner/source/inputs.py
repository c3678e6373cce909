"""Where rows are read from: generated, or streamed from JSON lines. One block of rows in memory at a time."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from runner.config.source import Source as SourceSection
from runner.errors import InputError, Problem

BLOCK_BYTES: Final = 1 << 18
BLOCK_ROWS: Final = 1024
_BOM: Final = b"\xef\xbb\xbf"


class Row(msgspec.Struct, frozen=True, gc=False):
    """Row `i` as it was read; `number` counts lines of `file` from 1. A generated row has no text."""

    i: int
    text: bytes
    file: str
    number: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}" if self.file else f"row {self.i}"


class Input(Protocol):
    """The rows of a run, readable any number of times. Reading blocks: call it off the event loop."""

    def blocks(self) -> Iterator[list[Row]]:
        """All rows in order, a bounded number at a time. Raises `InputError`."""

    def fingerprint(self) -> str:
        """SHA-256 over everything that the rows are made of, in hex. Raises `InputError`."""


class Synthetic:
    """`count` rows with no fields of their own but `i`."""

    def __init__(self, section: SourceSection) -> None:
        self._section = section
        self.count = section.count or 100

    def blocks(self) -> Iterator[list[Row]]:
        for start in range(0, self.count, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, self.count)
            yield [Row(i=i, text=b"", file="", number=0) for i in range(start, stop)]

    def fingerprint(self) -> str:
        return hashlib.sha256(f"synthetic {self.count}".encode()).hexdigest()


class JsonLines:
    """The lines of one file, or of all files that a glob names, by name. Blank lines are no rows."""

    def __init__(self, pattern: str) -> None:
        found = glob.glob(pattern, recursive=True) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 - absolute patterns
        self.files = sorted(found)
        missing = [file for file in self.files if not Path(file).is_file()]
        if not self.files:
            raise InputError(Problem(f"no file fits source.path {pattern!r}", hint=_FROM_HERE))
        if missing:
            problems = [Problem(_what_is_wrong_with(file), file, _FROM_HERE) for file in missing]
            raise InputError(*problems)

    def blocks(self) -> Iterator[list[Row]]:
        i = 0
        for file in self.files:
            number = 0
            for texts in self._read(file):
                block = []
                for text in texts:
                    number += 1
                    stripped = text.removeprefix(_BOM).strip() if number == 1 else text.strip()
                    if stripped:
                        block.append(Row(i=i, text=stripped, file=file, number=number))
                        i += 1
                if block:
                    yield block

    def fingerprint(self) -> str:
        hasher = hashlib.sha256()
        for file in self.files:
            for texts in self._read(file):
                hasher.update(b"".join(texts))
        return hasher.hexdigest()

    def _read(self, file: str) -> Iterator[list[bytes]]:
        try:
            with open(file, "rb") as lines:  # noqa: PTH123 - a path in the user's words, for messages too
                while texts := lines.readlines(BLOCK_BYTES):
                    yield texts
        except OSError as error:
            raise InputError(Problem(f"the input cannot be read: {error.strerror}", file)) from None


_FROM_HERE: Final = "paths are relative to the current directory"


def _what_is_wrong_with(file: str) -> str:
    return "is a directory, not a file" if Path(file).is_dir() else "there is no such input file"


def open_input(section: SourceSection) -> Input:
    """The input that the config names. Raises `InputError` where its files are missing."""
    readers: dict[str, Any] = {
        "synthetic": lambda: Synthetic(section),
        "jsonl": lambda: JsonLines(section.path or ""),
    }
    reader: Input = readers[section.type]()
    return reader
