"""`results.jsonl`: one line per finished request, appended as it arrives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from runner.records import Failure, Result, ResultStatus, Timing
from runner.store.files import read_lines
from runner.store.json_log import JsonLog, decode_line


class _BodyHead(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw()


class _ReplyHead(msgspec.Struct, gc=False):
    body: _BodyHead | None = None


class ResultHead(msgspec.Struct, frozen=True, gc=False):
    """A result read back without its body: enough to count it and to time it."""

    custom_id: str
    row: int
    status: ResultStatus
    timing: Timing
    attempts: int
    polls: int
    response: _ReplyHead | None = None
    error: Failure | None = None
    epoch: int = 0

    @property
    def usage(self) -> msgspec.Raw:
        """The response's usage object, as received; empty where there is none."""
        body = self.response.body if self.response else None
        return body.usage if body else msgspec.Raw()


_decode: Final = msgspec.json.Decoder(ResultHead).decode


class Results(JsonLog[Result]):
    """The results of one worker, to be written."""


def read_results(*paths: Path) -> Iterator[ResultHead]:
    """Yield the whole lines of each file in order. Raises `RunDirError` for a damaged one."""
    return (head for path in paths for _, head in read_raw_results(path))


def read_raw_results(path: Path) -> Iterator[tuple[bytes, ResultHead]]:
    """Yield each whole line of a file, without its newline, beside what it says.

    Raises `RunDirError` for a damaged one.
    """
    for number, line in enumerate(read_lines(path), start=1):
        yield line, decode_line(path, number, line, _decode)


def is_superseded(result: Result | ResultHead, epochs: Mapping[int, int]) -> bool:
    """Return whether the row was reopened since: `epochs` has its current epoch (see `Marks`)."""
    return result.epoch < epochs.get(result.row, 0)
