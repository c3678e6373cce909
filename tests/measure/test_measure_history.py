"""The totals of a run are read back from its files, and the next session continues from them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from runner.measure.history import recall
from runner.measure.in_flight import InFlight
from runner.records import Failure, Job, Result, ResultStatus, Timing, Usage
from runner.store import (
    Acceptance,
    BatchAcceptance,
    BatchIntent,
    Intent,
    Journal,
    Manifest,
    Results,
    RunDir,
    SessionStart,
)

MANIFEST = Manifest(
    format=1, run_id="r", name="test", created=1000.0, version="0", rows=10, input="", settings={},
    key_salt="", key="",
)  # fmt: skip
FAILURE = Failure(type="x", message="y", status_code=400)


def _failed(row: int, accepted: float | None, done: float) -> Result:
    timing = Timing(1001.0, 1001.0, accepted, None, done)
    status: ResultStatus = "rejected" if accepted is None else "failed"
    return Result(f"row-{row}", row, status, None, FAILURE, timing, attempts=1, polls=0)


@pytest.fixture
def killed(tmp_path: Path) -> RunDir:
    """Make a run of which three rows are accepted and one more was sent, without any result."""
    run_dir = RunDir(tmp_path)
    journal = Journal(run_dir.journal)
    for row in range(4):
        journal.write(Intent(row=row, custom_id=f"id-{row}", key="k", due=1.0, at=1.0))
    for row in range(3):
        journal.write(Acceptance(row=row, job=f"j{row}", kind="m", attempts=1, at=2.0))
    journal.log.close()
    run_dir.metrics.write_bytes(b'{"wall_s": 4.0, "cpu_s": 1.5, "retries": {"submit": {"500": 3}}}\n')
    return run_dir


def test_a_session_continues_from_the_last_sample(killed: RunDir) -> None:
    history = recall(killed, MANIFEST, 10)

    assert (history.session.earlier_wall_s, history.session.earlier_cpu_s) == (4.0, 1.5)
    assert (history.session.started, history.session.continued) == (1000.0, 0)
    assert history.meter.counts.submit_retries == {"500": 3}
    assert all(isinstance(job, Job) for job in history.recovery.outstanding.values())


def test_jobs_accepted_by_an_earlier_session_stay_counted_as_accepted(killed: RunDir) -> None:
    meter = recall(killed, MANIFEST, 10).meter

    assert (meter.counts.accepted, meter.counts.last_accepted) == (3, 2.0)


def test_what_was_sent_without_an_acknowledgement_is_announced_and_accepted_jobs_are_outstanding(
    killed: RunDir,
) -> None:
    assert recall(killed, MANIFEST, 10).in_flight == InFlight(total=10, announced=1, outstanding=3)


def test_a_smaller_limit_still_counts_what_was_sent_beyond_it(killed: RunDir) -> None:
    results = Results(killed.results)
    results.write(_failed(9, None, 3.0))
    results.log.close()

    assert recall(killed, MANIFEST, 2).in_flight == InFlight(total=4, announced=1, outstanding=3, finished=1)


def test_batches_count_as_accepted_and_as_announced(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    journal = Journal(run_dir.journal)
    for number, rows in enumerate(([0, 4], [4, 6])):
        journal.write(
            BatchIntent(
                batch=number, label=f"b{number}", key="k", rows=rows, size_bytes=9, kind="m", due=1.0, at=1.0
            )
        )
    journal.write(BatchAcceptance(batch=0, id="b", attempts=1, at=5.0))
    journal.log.close()
    history = recall(run_dir, MANIFEST, 10)

    assert (history.meter.counts.accepted, history.meter.counts.last_accepted) == (4, 5.0)
    assert history.in_flight == InFlight(total=10, announced=2, outstanding=4)


def test_milestones_continue_from_the_first_session_and_its_results(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    journal, results = Journal(run_dir.journal), Results(run_dir.results)
    journal.write(SessionStart(at=1000.0, number=0))
    for row, accepted in enumerate((1010.0, 1020.0, 1030.0)):
        journal.write(Intent(row=row, custom_id=f"row-{row}", key="k", due=1001.0, at=1001.0))
        journal.write(Acceptance(row=row, job=f"j{row}", kind="m", attempts=1, at=accepted))
    results.write(_failed(0, 1010.0, 1100.0))
    results.write(_failed(7, None, 1040.0))
    journal.write(SessionStart(at=5000.0, number=1))
    journal.log.close()
    results.log.close()
    wire = {"requests": 9, "sent_bytes": 800, "odd": None}
    run_dir.metrics.write_bytes(msgspec.json.encode({"wire": wire}) + b"\n")
    history = recall(run_dir, MANIFEST, 10)
    meter = history.meter

    assert (meter.began, meter.restarts, history.session.continued) == (1000.0, [5000.0], 1)
    assert history.next_session == 2
    meter.begin(9000.0)
    meter.finished("completed", Timing(1000.0, 1000.0, 1020.0, None, 6000.0), Usage())
    summary = meter.milestones.summary(meter.counts)
    assert (summary.submitted, summary.first_result, summary.last_result) == (30.0, 40.0, 5000.0)
    assert summary.half_results == pytest.approx(100.0, rel=1e-3)
    assert meter.wire == {"requests": 9, "sent_bytes": 800, "received_bytes": 0}
