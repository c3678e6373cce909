"""The output that appends one line per second to `metrics.jsonl`."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, Final

import msgspec

from runner.measure.sample import Sample
from runner.store import AppendLog
from runner.store.files import cut_torn_tail, read_lines

SAMPLE_S: Final = 1.0
_encode = msgspec.json.Encoder().encode


class MetricsLog:
    """Appends every sample as a line of JSON, after the lines of earlier sessions."""

    every_s = SAMPLE_S
    _log: AppendLog

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self) -> None:
        """Open the file, without a torn last line. Raises `StorageError`."""
        cut_torn_tail(self._path)
        self._log = AppendLog(self._path)

    def add(self, sample: Sample) -> None:
        """Append a line. Raises `StorageError`."""
        self._log.append(_encode(sample) + b"\n", need_rescue=False)

    def stop(self) -> None:
        """Close the file."""
        self._log.close()


def last_sample(path: Path) -> dict[str, Any]:
    """Return the last whole line of an earlier session's `metrics.jsonl`, or {} where there is none.

    Its values are not checked: people edit such files, and versions differ.
    """
    last = next(iter(deque(read_lines(path), maxlen=1)), b"{}")
    try:
        sample = msgspec.json.decode(last)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return sample if isinstance(sample, dict) else {}
