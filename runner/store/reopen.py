"""Another try for rows that ended badly: a new epoch in the journal, their old results set aside.

`results.jsonl` keeps one line a row, always the last word; what it said before is in `superseded.jsonl`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from runner.records import ResultStatus
from runner.store.files import AppendLog, replace_atomically
from runner.store.journal import Journal, Reopened, read_marks
from runner.store.results import is_superseded, read_raw_results, read_results
from runner.store.rundir import RunDir


def reopen(run_dir: RunDir, statuses: Collection[ResultStatus], rows: int, at: float) -> int:
    """Reopen each of the first `rows` rows that ended in one of `statuses`; return how many those are.

    Killed at any moment, a row is reopened or it is not. After `RunDir.repair`. Raises `RunDirError`,
    `StorageError`.
    """
    epochs = read_marks(*run_dir.journals).epochs
    journal = Journal(run_dir.journal)
    count = 0
    try:
        for line in read_results(*run_dir.all_results):
            if line.status in statuses and line.row < rows and not is_superseded(line, epochs):
                journal.write(Reopened(row=line.row, epoch=line.epoch + 1, status=line.status, at=at))
                count += 1
        journal.log.sync()
    finally:
        journal.log.close()
    if count:
        archive_superseded(run_dir)
    return count


def archive_superseded(run_dir: RunDir) -> None:
    """Move the results of earlier epochs to `superseded.jsonl`; finishes what a kill interrupted.

    Raises `RunDirError`, `StorageError`.
    """
    epochs = read_marks(*run_dir.journals).epochs
    moved = {(line.row, line.epoch) for line in read_results(run_dir.superseded)}
    for results in run_dir.all_results:
        aside = AppendLog(run_dir.superseded)
        found = False
        try:
            for raw, line in read_raw_results(results):
                if is_superseded(line, epochs):
                    found = True
                    if (line.row, line.epoch) not in moved:
                        aside.append(raw + b"\n")
            aside.sync()
        finally:
            aside.close()
        if found:
            replace_atomically(results, _current(results, epochs))


def _current(results: Path, epochs: dict[int, int]) -> Iterator[bytes]:
    for raw, line in read_raw_results(results):
        if not is_superseded(line, epochs):
            yield raw + b"\n"
