"""Whole results of a run directory, of a run that has finished or is still running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import msgspec

from runner.records import Result
from runner.store.files import LineSnapshot
from runner.store.journal import read_marks
from runner.store.json_log import decode_line
from runner.store.results import is_superseded
from runner.store.row_set import RowSet
from runner.store.rundir import RunDir

_decode: Final = msgspec.json.Decoder(Result).decode


class ResultReader:
    """Reads the results of a run directory without its lock, and changes nothing in it.

    Iterating yields the last word of each row that has one, file by file in the order in which the lines were
    written. Each iteration shows the run as it was when its first result was asked for. Bodies are raw JSON
    (`msgspec.Raw`). Memory: one line, one bit a row, and the epoch of each row that was reopened.
    """

    def __init__(self, path: Path) -> None:
        """Raise `RunDirError` where `path` is not a run directory, or its manifest is damaged."""
        self.run_dir = RunDir(path)
        self.run_dir.check_exists()
        self.manifest = self.run_dir.read_manifest()

    def __iter__(self) -> Iterator[Result]:
        """Yield the results. Raises `RunDirError` with file and line for a damaged one, or `StorageError`."""
        with ExitStack() as stack:
            files = [stack.enter_context(closing(LineSnapshot(path))) for path in self.run_dir.all_results]
            # The marks are read after the snapshots are taken. So each result of a later epoch has its mark,
            # and a row that is reopened meanwhile has its old result or none, but never two.
            epochs = read_marks(*self.run_dir.journals).epochs
            seen = RowSet(self.manifest.rows)
            for lines in files:
                for number, line in enumerate(lines, start=1):
                    result = decode_line(lines.path, number, line, _decode)
                    if result.row not in seen and not is_superseded(result, epochs):
                        seen.add(result.row)
                        yield result
