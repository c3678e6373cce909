"""When the first, half and the last of a run's results were there, from its very beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.measure.history import recall
from runner.measure.meter import Meter
from runner.measure.milestones import Milestones
from runner.records import RESULT_STATUSES, Failure, Result, Timing, Usage
from runner.store import Acceptance, Intent, Journal, Manifest, Results, RunDir, SessionStart

MANIFEST = Manifest(
    format=1, run_id="r", name="test", created=1000.0, version="0", rows=10, input="", settings={},
    key_salt="", key="",
)  # fmt: skip


def _timing(done: float, accepted: float | None = None) -> Timing:
    return Timing(1000.0, 1000.0, accepted, None, done)


def test_of_a_run_in_which_nothing_has_come_to_pass_there_is_nothing_to_tell() -> None:
    names = ["submitted", "first_result", "half_results", "last_result"]
    meter = Meter(3)

    assert meter.milestones.summary() == dict.fromkeys(names)
    meter.begin(1000.0)
    assert meter.milestones.summary() == dict.fromkeys(names)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.none() | st.floats(0, 1e5)), min_size=1, max_size=60))
@settings(deadline=None)
def test_milestones_are_those_of_the_results_in_the_order_in_which_they_came(results: Any) -> None:
    milestones = Milestones()
    milestones.began = 1000.0
    for done, accepted in results:
        milestones.finish(_timing(1000.0 + done, None if accepted is None else 1000.0 + accepted))
    told = milestones.summary()

    done = sorted(done for done, _ in results)
    accepted = [at for _, at in results if at is not None]
    assert told["first_result"] == pytest.approx(done[0], abs=1e-5)
    assert told["half_results"] == pytest.approx(done[(len(done) - 1) // 2], rel=1e-3, abs=1e-5)
    assert told["last_result"] == pytest.approx(done[-1], abs=1e-5)
    assert told["submitted"] == (pytest.approx(max(accepted), abs=1e-5) if accepted else None)
    assert told["first_result"] <= told["half_results"] <= told["last_result"] + 1e-6


@pytest.mark.parametrize("status", RESULT_STATUSES)
def test_a_result_counts_however_its_request_ended_and_whatever_stop_it_spanned(status: Any) -> None:
    meter = Meter(1)
    meter.begin(1000.0)
    meter.restarts = [1050.0]
    meter.finished(status, _timing(1100.0, 1010.0), Usage())

    assert meter.spanned == 1
    assert meter.milestones.summary() == {
        "submitted": 10.0,
        "first_result": 100.0,
        "half_results": pytest.approx(100.0, rel=1e-3),
        "last_result": 100.0,
    }


def test_only_the_first_session_is_the_beginning() -> None:
    meter = Meter(1)
    for at in (1000.0, 2000.0):
        meter.begin(at)

    assert meter.began == 1000.0


def test_a_clock_that_was_set_back_since_tells_no_time_before_the_beginning() -> None:
    meter = Meter(1)
    meter.begin(1000.0)
    meter.finished("completed", _timing(990.0, 980.0), Usage())

    assert set(meter.milestones.summary().values()) == {0.0}


def test_a_continued_run_goes_on_from_the_first_session_and_its_results(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    journal, results = Journal(run_dir.journal), Results(run_dir.results)
    journal.write(SessionStart(at=1000.0, number=0))
    for row, accepted in enumerate((1010.0, 1020.0, 1030.0)):
        journal.write(Intent(row=row, custom_id=f"row-{row}", key="k", due=1001.0, at=1001.0))
        journal.write(Acceptance(row=row, job=f"j{row}", kind="m", attempts=1, at=accepted))
    refused = Failure(type="x", message="y", status_code=400)
    for row, done in ((0, 1100.0), (7, 1040.0)):
        accepted = 1010.0 if row == 0 else None
        results.write(
            Result(f"row-{row}", row, "failed" if accepted else "rejected", None, refused,
                   Timing(1001.0, 1001.0, accepted, None, done), 1, 0)
        )  # fmt: skip
    journal.write(SessionStart(at=5000.0, number=1))
    journal.log.close()
    results.log.close()
    run_dir.metrics.write_bytes(
        msgspec.json.encode({"wire": {"requests": 9, "sent_bytes": 800, "odd": None}})
    )
    run_dir.metrics.write_bytes(run_dir.metrics.read_bytes() + b"\n")
    meter = recall(run_dir, MANIFEST, 10).meter

    assert meter.began == 1000.0
    meter.begin(9000.0)
    meter.finished("completed", _timing(6000.0, 1020.0), Usage())
    assert meter.milestones.summary() == {
        "submitted": 30.0,
        "first_result": 40.0,
        "half_results": pytest.approx(100.0, rel=1e-3),
        "last_result": 5000.0,
    }
    assert meter.wire == {"requests": 9, "sent_bytes": 800, "received_bytes": 0}
