"""Rows tried again by hand: a new epoch, one line a row, the old lines kept, whatever moment a kill comes."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from runner.records import Result
from runner.store import (
    Journal,
    Results,
    RunDir,
    read_marks,
    read_results,
    recover,
    reopen,
    archive_superseded,
)
from runner.store import files as files_module
from runner.store.journal import Reopened
from tests.store.conftest import Entries

ROWS = 20
ENDS = {0: "completed", 1: "failed", 2: "rejected", 3: "failed", 4: "uncertain"}


@pytest.fixture
def ended(run_dir: RunDir, entries: Entries, line: Callable[..., Result]):
    """Rows 0 to 4 ended as in ENDS; row 5 is open, row 6 of unknown fate."""
    journal, results = Journal(run_dir.journal), Results(run_dir.results)
    for row, status in ENDS.items():
        journal.write(entries.intent(row))
        journal.write(entries.accepted(row))
        results.write(line(row, status=status))
    journal.write(entries.intent(5))
    journal.write(entries.accepted(5))
    journal.write(entries.intent(6))
    journal.log.close()
    results.log.close()
    return run_dir


def done_rows(run_dir):
    recovery = recover(run_dir, ROWS, lambda _: None)
    return [row for row in range(ROWS) if row in recovery.done]


def test_only_rows_of_the_asked_statuses_are_reopened_and_other_lines_stay_as_they_are(ended: Any) -> None:
    before = dict(zip(ENDS, ended.results.read_bytes().splitlines(), strict=True))

    assert reopen(ended, ["failed", "uncertain"], ROWS, 7.0) == 3
    assert ended.results.read_bytes().splitlines() == [before[0], before[2]]
    assert ended.superseded.read_bytes().splitlines() == [before[1], before[3], before[4]]
    assert read_marks(ended.journal).epochs == {1: 1, 3: 1, 4: 1}
    recovery = recover(ended, ROWS, lambda _: None)
    assert done_rows(ended) == [0, 2]
    assert (sorted(recovery.outstanding), sorted(recovery.unacknowledged)) == ([5], [6])


def test_rows_beyond_a_limit_are_left_alone(ended: Any) -> None:
    assert reopen(ended, ["failed"], 2, 7.0) == 1
    assert done_rows(ended) == [0, 2, 3, 4]


def test_nothing_to_reopen_changes_nothing(ended: Any) -> None:
    before = ended.results.read_bytes(), ended.journal.read_bytes()
    assert reopen(ended, ["cancelled"], ROWS, 7.0) == 0
    assert (ended.results.read_bytes(), ended.journal.read_bytes()) == before
    assert not ended.superseded.exists()


def test_what_the_journal_says_of_an_earlier_epoch_no_longer_counts(ended: Any, entries: Entries) -> None:
    reopen(ended, ["failed"], ROWS, 7.0)
    journal = Journal(ended.journal)
    journal.write(msgspec.structs.replace(entries.intent(3), epoch=1))
    journal.log.close()
    recovery = recover(ended, ROWS, lambda _: None)
    assert sorted(recovery.outstanding) == [5]
    assert sorted(recovery.unacknowledged) == [3, 6]
    assert recovery.epochs == {1: 1, 3: 1}


def test_a_row_may_be_tried_again_and_again_and_every_last_word_is_kept(
    ended: Any, line: Callable[..., Result]
) -> None:
    for epoch in (1, 2, 3):
        assert reopen(ended, ["failed"], 2, 7.0) == 1
        results = Results(ended.results)
        results.write(line(1, status="failed", epoch=epoch))
        results.log.close()
    assert [(old.row, old.epoch) for old in read_results(ended.superseded)] == [(1, 0), (1, 1), (1, 2)]
    assert [(new.row, new.epoch) for new in read_results(ended.results)] == [
        (0, 0), (2, 0), (3, 0), (4, 0), (1, 3),
    ]  # fmt: skip


class Killed(BaseException):
    """Stands for the end of the process at one call."""


@pytest.mark.parametrize("calls_left", range(30))
def test_killed_between_any_two_writes_it_is_finished_by_the_next_start(
    ended: Any, monkeypatch: pytest.MonkeyPatch, calls_left: Any
) -> None:
    left = calls_left

    def counted(function):
        def call(*arguments, **keywords):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*arguments, **keywords)

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "write", "fsync", "fdatasync"):
            patch.setattr(files_module.os, name, counted(getattr(files_module.os, name)))
        with contextlib.suppress(Killed):
            reopen(ended, ["failed", "rejected"], ROWS, 7.0)
    reopened = sorted(read_marks(ended.journal).epochs)
    assert done_rows(ended) == [row for row in ENDS if row not in reopened]
    seen = []
    recovery = recover(ended, ROWS, lambda _: None, seen.append)
    superseded = {(old.row, old.epoch) for old in (*read_results(ended.superseded), *seen)}
    assert superseded == {(row, 0) for row in reopened}, "no line is ever in neither of the files"

    ended.repair()
    if recovery.has_superseded:
        archive_superseded(ended)
    assert sorted(result.row for result in read_results(ended.results)) == done_rows(ended)
    assert sorted(old.row for old in read_results(ended.superseded)) == reopened
    archive_superseded(ended)
    assert sorted(old.row for old in read_results(ended.superseded)) == reopened, (
        "repeating it doubles nothing"
    )


def test_a_mark_says_how_the_row_had_ended(ended: Any) -> None:
    reopen(ended, ["rejected"], ROWS, 7.0)
    last = ended.journal.read_bytes().splitlines()[-1]
    assert msgspec.json.decode(last, type=Reopened) == Reopened(row=2, epoch=1, status="rejected", at=7.0)
