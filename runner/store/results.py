"""`results.jsonl`: one line per finished request, appended as it arrives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from runner.records import Failure, Result, ResultStatus, Timing
from runner.store.files import read_lines
from runner.store.journal import damaged
from runner.store.json_log import JsonLog


class _Tokens(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw()


class _ReplyHead(msgspec.Struct, gc=False):
    body: _Tokens | None = None


class ResultHead(msgspec.Struct, frozen=True, gc=False):
    """A line read back, without the body: enough to count it and time it."""

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


_decode = msgspec.json.Decoder(ResultHead).decode


class Results(JsonLog[Result]):
    """Results, one line each."""


def read_results(*paths: Path) -> Iterator[ResultHead]:
    """All whole lines of each file in order. Raises `RunDirError` for a damaged one."""
    return (line for path in paths for _, line in read_raw_results(path))


def is_superseded(line: ResultHead, epochs: Mapping[int, int]) -> bool:
    """Whether the line is of an earlier epoch of its row."""
    return line.epoch < epochs.get(line.row, 0)


def read_raw_results(path: Path) -> Iterator[tuple[bytes, ResultHead]]:
    """As `read_results`, each line with its bytes, without the newline."""
    for number, raw in enumerate(read_lines(path), start=1):
        try:
            yield raw, _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise damaged(path, number, error) from None
