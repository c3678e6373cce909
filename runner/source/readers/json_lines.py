"""Reader for `source.type: jsonl`: files with one JSON object per line, streamed."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from runner.config.source import JsonLinesSource
from runner.errors import InputError, Problem
from runner.source.row import Row, RowError, kind_of

BLOCK_BYTES: Final = 1 << 18
_BOM: Final = b"\xef\xbb\xbf"
_FROM_HERE: Final = "paths are relative to the current directory"
_decode = msgspec.json.Decoder().decode


class JsonRow(msgspec.Struct, frozen=True, gc=False):
    """One line of a file, without the white space around it. `number` counts the lines of `file` from 1."""

    i: int
    text: bytes
    file: str
    number: int

    @property
    def where(self) -> str:
        """Place of the row in words, for messages: `data.jsonl:17`."""
        return f"{self.file}:{self.number}"

    def fields(self) -> dict[str, Any]:
        """Decode the line. Raises `RowError` if it is not a JSON object."""
        try:
            row = _decode(self.text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RowError(_malformed(self.file, self.text, error)) from None
        if not isinstance(row, dict):
            raise RowError(f"is not a JSON object but {kind_of(row)}")
        return row


class JsonLines:
    """The lines of one file, or of all files that a glob matches, in order of their names.

    Blank lines are not rows. One block of lines is in memory at a time.
    """

    default_prompt = None
    numbered_rows = None

    def __init__(self, section: JsonLinesSource) -> None:
        pattern = section.path
        found = glob.glob(pattern, recursive=True) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 - absolute patterns
        self.files = sorted(found)
        missing = [file for file in self.files if not Path(file).is_file()]
        if not self.files:
            raise InputError(Problem(f"no file matches source.path {pattern!r}", hint=_FROM_HERE))
        if missing:
            raise InputError(*[Problem(_why_missing(file), file, _FROM_HERE) for file in missing])

    def blocks(self) -> Iterator[list[Row]]:
        """Yield all rows in order, a bounded number at a time. Raises `InputError`."""
        i = 0
        for file in self.files:
            number = 0
            for texts in self._read(file):
                block: list[Row] = []
                for text in texts:
                    number += 1
                    stripped = text.removeprefix(_BOM).strip() if number == 1 else text.strip()
                    if stripped:
                        block.append(JsonRow(i, stripped, file, number))
                        i += 1
                if block:
                    yield block

    def fingerprint(self) -> str:
        """Return a hex SHA-256 of the contents of all files. Raises `InputError`."""
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


def _why_missing(file: str) -> str:
    return "is a directory, not a file" if Path(file).is_dir() else "there is no such input file"


def _malformed(file: str, text: bytes, error: Exception) -> str:
    """Return what is wrong with a line, and what the file probably is instead."""
    suffix = Path(file).suffix.lower()
    if suffix in _OTHER_FORMATS:
        return f"is not JSON: this looks like {_OTHER_FORMATS[suffix]}; source.type: jsonl reads {_EXPECTED}"
    if text in (b"[", b"{"):
        return f"is not JSON: this looks like JSON over several lines; source.type: jsonl reads {_EXPECTED}"
    return f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}"


_EXPECTED: Final = "one JSON object per line"
_OTHER_FORMATS: Final = {".csv": "CSV", ".tsv": "CSV", ".parquet": "Parquet", ".txt": "plain text"}
