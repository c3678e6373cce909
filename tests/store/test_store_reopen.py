"""Rows retried by hand: a new epoch, one line per row, and old lines kept, whenever a kill comes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import msgspec
import pytest

from runner.records import ResultStatus
from runner.store import (
    Journal,
    ResultHead,
    Results,
    RunDir,
    archive_superseded,
    ignore,
    read_marks,
    read_results,
    recover,
    reopen,
)
from runner.store.journal import Reopened
from tests.store.killing import Killed
from tests.store.samples import acceptance, intent, result

ROWS = 20
STATUSES: dict[int, ResultStatus] = {0: "completed", 1: "failed", 2: "rejected", 3: "failed", 4: "uncertain"}


@pytest.fixture
def ended(run_dir: RunDir) -> RunDir:
    """Return a run with results as in STATUSES; row 5 is outstanding, row 6 unacknowledged."""
    journal, results = Journal(run_dir.journal), Results(run_dir.results)
    for row, status in STATUSES.items():
        journal.write(intent(row))
        journal.write(acceptance(row))
        results.write(result(row, status=status))
    journal.write(intent(5), acceptance(5), intent(6))
    journal.log.close()
    results.log.close()
    return run_dir


def done_rows(run_dir: RunDir) -> list[int]:
    recovery = recover(run_dir, ROWS, ignore, ignore)
    return [row for row in range(ROWS) if row in recovery.done]


def test_only_rows_with_the_given_statuses_are_reopened_and_other_lines_stay(
    ended: RunDir,
) -> None:
    before = dict(zip(STATUSES, ended.results.read_bytes().splitlines(), strict=True))

    assert reopen(ended, ["failed", "uncertain"], ROWS, 7.0) == 3
    assert ended.results.read_bytes().splitlines() == [before[0], before[2]]
    assert ended.superseded.read_bytes().splitlines() == [before[1], before[3], before[4]]
    assert read_marks(ended.journal).epochs == {1: 1, 3: 1, 4: 1}
    recovery = recover(ended, ROWS, ignore, ignore)
    assert done_rows(ended) == [0, 2]
    assert (sorted(recovery.outstanding), sorted(recovery.unacknowledged)) == ([5], [6])


def test_rows_beyond_a_limit_are_not_reopened(ended: RunDir) -> None:
    assert reopen(ended, ["failed"], 2, 7.0) == 1
    assert done_rows(ended) == [0, 2, 3, 4]


def test_no_file_changes_if_there_is_nothing_to_reopen(ended: RunDir) -> None:
    before = ended.results.read_bytes(), ended.journal.read_bytes()
    assert reopen(ended, ["cancelled"], ROWS, 7.0) == 0
    assert (ended.results.read_bytes(), ended.journal.read_bytes()) == before
    assert not ended.superseded.exists()


def test_journal_entries_of_an_earlier_epoch_are_void(ended: RunDir) -> None:
    reopen(ended, ["failed"], ROWS, 7.0)
    journal = Journal(ended.journal)
    journal.write(intent(3, epoch=1))
    journal.log.close()
    recovery = recover(ended, ROWS, ignore, ignore)
    assert sorted(recovery.outstanding) == [5]
    assert sorted(recovery.unacknowledged) == [3, 6]
    assert recovery.epochs == {1: 1, 3: 1}


def test_a_row_can_be_retried_several_times_and_every_result_is_kept(ended: RunDir) -> None:
    for epoch in (1, 2, 3):
        assert reopen(ended, ["failed"], 2, 7.0) == 1
        results = Results(ended.results)
        results.write(result(1, status="failed", epoch=epoch))
        results.log.close()
    assert [(old.row, old.epoch) for old in read_results(ended.superseded)] == [(1, 0), (1, 1), (1, 2)]
    assert [(new.row, new.epoch) for new in read_results(ended.results)] == [
        (0, 0), (2, 0), (3, 0), (4, 0), (1, 3),
    ]  # fmt: skip


P = ParamSpec("P")
T = TypeVar("T")


@pytest.mark.parametrize("calls_left", range(30))
def test_a_reopening_that_was_killed_between_any_two_calls_is_finished_by_the_next_start(
    ended: RunDir, monkeypatch: pytest.MonkeyPatch, calls_left: int
) -> None:
    left = calls_left

    def counted(function: Callable[P, T]) -> Callable[P, T]:
        def call(*arguments: P.args, **keywords: P.kwargs) -> T:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*arguments, **keywords)

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "write", "fsync", "fdatasync"):
            patch.setattr(os, name, counted(getattr(os, name)))
        with contextlib.suppress(Killed):
            reopen(ended, ["failed", "rejected"], ROWS, 7.0)
    reopened = sorted(read_marks(ended.journal).epochs)
    assert done_rows(ended) == [row for row in STATUSES if row not in reopened]
    seen: list[ResultHead] = []
    recovery = recover(ended, ROWS, ignore, seen.append)
    superseded = {(old.row, old.epoch) for old in (*read_results(ended.superseded), *seen)}
    assert superseded == {(row, 0) for row in reopened}, "each line is in one of the files at any moment"

    ended.repair()
    if recovery.has_superseded:
        archive_superseded(ended)
    assert sorted(head.row for head in read_results(ended.results)) == done_rows(ended)
    assert sorted(old.row for old in read_results(ended.superseded)) == reopened
    archive_superseded(ended)
    assert sorted(old.row for old in read_results(ended.superseded)) == reopened, (
        "repeating the move doubles no line"
    )


def test_the_journal_entry_has_the_status_of_the_old_result(ended: RunDir) -> None:
    reopen(ended, ["rejected"], ROWS, 7.0)
    last = ended.journal.read_bytes().splitlines()[-1]
    assert msgspec.json.decode(last, type=Reopened) == Reopened(row=2, epoch=1, status="rejected", at=7.0)
