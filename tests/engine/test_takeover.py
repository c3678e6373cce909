"""What a worker that died left: its rows by what the files show, and its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from runner.engine.takeover import read_unfinished
from runner.measure.counts import Counts
from runner.records import Reply, Result, ResultStatus, Timing
from runner.store import (
    Acceptance,
    Intent,
    Journal,
    Results,
    Retraction,
    RowSet,
    RunDir,
    SessionStart,
    Unacknowledged,
    ignore,
    recover,
)

ROWS = 100
Entry = SessionStart | Intent | Acceptance | Retraction


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def begin(number: int) -> SessionStart:
    return SessionStart(at=float(number), number=number)


def intent(row: int) -> Intent:
    return Intent(row=row, custom_id=f"row-{row}", key=f"key-{row}", due=1.0, at=2.0)


def acceptance(row: int) -> Acceptance:
    return Acceptance(row=row, job=f"job-{row}", kind="m", attempts=1, at=3.0)


def result(row: int, status: ResultStatus = "completed", done: float = 9.0) -> Result:
    reply = Reply(200, None, msgspec.Raw(b'{"usage": {"input_tokens": 2, "output_tokens": 5}}'))
    timing = Timing(due=1.0, sent=2.0, accepted=3.0, pending=None, done=done)
    return Result(f"row-{row}", row, status, reply, None, timing, attempts=1, polls=4)


def write(run_dir: RunDir, worker: int, *entries: Entry, results: Iterable[Result] = ()) -> None:
    """Append to the files of a worker."""
    files = run_dir.files(worker)
    journal, lines = Journal(files.journal), Results(files.results)
    with closing(journal.log), closing(lines.log):
        journal.write(*entries)
        lines.write(*results)


def rows(*numbers: int) -> RowSet:
    row_set = RowSet(ROWS)
    for number in numbers:
        row_set.add(number)
    return row_set


def test_each_row_of_a_dead_worker_is_finished_outstanding_perhaps_sent_or_unsent(run_dir: RunDir) -> None:
    entries: list[Entry] = [begin(0), *map(intent, range(8)), *map(acceptance, range(5))]
    entries.append(Retraction(7, "429", 4.0))
    write(run_dir, 0, *entries, results=map(result, range(3)))
    work = read_unfinished(run_dir, 0, ROWS, rows(*range(10)))

    assert [job.row for job in work.outstanding] == [3, 4]
    assert [job.id for job in work.outstanding] == ["job-3", "job-4"]
    assert all(job.inherited for job in work.outstanding)
    assert work.unacknowledged == {row: Unacknowledged(f"key-{row}", 1.0, 2.0) for row in (5, 6)}
    assert work.unsent == [5, 6, 7, 8, 9]
    assert work.in_flight().finished == 3
    assert repr(work) == "<UnfinishedWork 2 outstanding, 5 to send, 3 finished>"


def test_rows_that_others_hold_are_left_alone(run_dir: RunDir) -> None:
    write(run_dir, 0, begin(0), intent(0), acceptance(0))
    write(run_dir, 1, begin(0), intent(1), acceptance(1), intent(2), results=[result(3)])
    work = read_unfinished(run_dir, 0, ROWS, rows(0, 9))

    assert [job.row for job in work.outstanding] == [0]
    assert work.unacknowledged == {}
    assert work.unsent == [9]
    assert work.in_flight().finished == 0


def test_a_worker_that_died_before_it_wrote_anything_left_all_its_rows(run_dir: RunDir) -> None:
    work = read_unfinished(run_dir, 0, ROWS, rows(4, 2, 8))

    assert work.unsent == [2, 4, 8]
    assert (work.outstanding, work.unacknowledged) == ([], {})


def test_half_a_line_at_the_end_is_cut_so_that_the_successor_can_append(run_dir: RunDir) -> None:
    write(run_dir, 0, begin(0), intent(0), results=[result(1)])
    for path in (run_dir.files(0).journal, run_dir.files(0).results):
        with path.open("ab") as file:
            file.write(b'{"event":"acc')
    work = read_unfinished(run_dir, 0, ROWS, rows(0, 1))
    write(run_dir, 0, acceptance(0))

    assert list(work.unacknowledged) == [0]
    assert list(recover(run_dir, ROWS, ignore, ignore).outstanding) == [0]


def test_a_line_that_another_worker_is_writing_is_not_touched(run_dir: RunDir) -> None:
    write(run_dir, 1, begin(0), intent(5))
    with run_dir.files(1).journal.open("ab") as file:
        file.write(b'{"event":"acc')
    before = run_dir.files(1).journal.read_bytes()
    read_unfinished(run_dir, 0, ROWS, rows(0))

    assert run_dir.files(1).journal.read_bytes() == before


def test_counts_of_a_dead_worker_are_exact_where_its_results_show_them(run_dir: RunDir) -> None:
    reported = Counts(
        statuses=Counter(completed=1),
        tokens=Counter(input=2, output=5),
        submit_retries=Counter({"429": 3}),
        wire=Counter(requests=50),
        accepted=6,
        polls=7,
        spanned=1,
        last_accepted=3.5,
        first_done=8.0,
        last_done=8.0,
    )
    results = [result(0, done=8.0), result(1, "failed", done=9.0), result(2, done=10.0)]
    write(run_dir, 0, begin(0), results=results)
    counts = read_unfinished(run_dir, 0, ROWS, rows(0, 1, 2)).counts(reported)

    assert +counts.statuses == Counter(completed=2, failed=1)
    assert (counts.tokens["input"], counts.tokens["output"]) == (6, 15)
    assert counts.polls == 12
    assert counts.spanned == 1 + 2, "nobody has their latencies"
    assert (counts.last_accepted, counts.first_done, counts.last_done) == (3.5, 8.0, 10.0)
    assert counts.submit_retries == {"429": 3}
    assert (counts.accepted, counts.wire["requests"]) == (6, 50)


def test_the_number_of_a_session_shows_which_of_two_journals_is_newer(run_dir: RunDir) -> None:
    """A row moved to another worker; its former worker was killed before it marked the later session."""
    write(run_dir, 0, begin(0), intent(1), Retraction(1, "429", 4.0), intent(2), Retraction(2, "429", 4.0))
    write(run_dir, 1, begin(0), intent(3), Retraction(3, "429", 4.0))
    write(run_dir, 1, begin(1), *map(intent, (1, 2, 3)), *map(acceptance, (1, 2, 3)))

    recovery = recover(run_dir, ROWS, ignore, ignore)
    assert sorted(recovery.outstanding) == [1, 2, 3]
    assert recovery.unacknowledged == {}


def test_a_session_that_one_process_marked_and_left_is_older_than_the_next_one_of_many(
    run_dir: RunDir,
) -> None:
    """The plain journal was written by session 0 and 2, those of two workers by session 1."""
    for journal, entries in (
        (run_dir.journal, [begin(0)]),
        (run_dir.files(0).journal, [begin(1), intent(1), Retraction(1, "429", 4.0)]),
        (run_dir.files(1).journal, [begin(1), intent(2), Retraction(2, "429", 4.0)]),
        (run_dir.journal, [begin(2), *map(intent, (1, 2)), *map(acceptance, (1, 2))]),
    ):
        log = Journal(journal)
        with closing(log.log):
            log.write(*entries)

    assert sorted(recover(run_dir, ROWS, ignore, ignore).outstanding) == [1, 2]
