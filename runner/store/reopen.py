"""Retries by hand: each row gets a new epoch in the journal, and its old result moves to another file.

`results.jsonl` keeps one line per row, always the last word; earlier ones are in `superseded.jsonl`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from runner.records import ResultStatus
from runner.store.files import AppendLog, replace_atomically
from runner.store.journal import Journal, Reopened, read_marks
from runner.store.results import is_superseded, read_raw_results, read_results
from runner.store.rundir import RunDir


def reopen(run_dir: RunDir, statuses: Collection[ResultStatus], rows: int, at: float) -> int:
    """Reopen those of the first `rows` rows whose result has one of `statuses`; return their number.

    Call it after `RunDir.repair`. After a kill at any moment each row is reopened or is not. Raises
    `RunDirError`, `StorageError`.
    """
    epochs = read_marks(*run_dir.journals).epochs
    journal = Journal(run_dir.journal)
    count = 0
    with closing(journal.log):
        for result in read_results(*run_dir.all_results):
            if result.status in statuses and result.row < rows and not is_superseded(result, epochs):
                journal.write(Reopened(row=result.row, epoch=result.epoch + 1, status=result.status, at=at))
                count += 1
        journal.log.sync()
    if count:
        archive_superseded(run_dir)
    return count


def archive_superseded(run_dir: RunDir) -> None:
    """Move the results of earlier epochs to `superseded.jsonl`, or finish a move that a kill interrupted.

    Raises `RunDirError`, `StorageError`.
    """
    epochs = read_marks(*run_dir.journals).epochs
    archived = {(result.row, result.epoch) for result in read_results(run_dir.superseded)}
    for results in run_dir.all_results:
        archive = AppendLog(run_dir.superseded)
        has_superseded = False
        with closing(archive):
            for line, result in read_raw_results(results):
                if is_superseded(result, epochs):
                    has_superseded = True
                    if (result.row, result.epoch) not in archived:
                        archive.append(line + b"\n")
            archive.sync()
        if has_superseded:
            replace_atomically(results, _current(results, epochs))


def _current(results: Path, epochs: dict[int, int]) -> Iterator[bytes]:
    for line, result in read_raw_results(results):
        if not is_superseded(result, epochs):
            yield line + b"\n"
