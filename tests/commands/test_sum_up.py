"""The end of a run: what `summary.json` says, which exit code it has, and what the user reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.commands.sum_up import report_complete, sum_up
from runner.config import RunConfig
from runner.errors import (
    Interrupted,
    LimitReached,
    NothingAccepted,
    Problem,
    RunnerError,
    StorageError,
)
from runner.measure.history import History
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.measure.session_info import SessionInfo
from runner.measure.vitals import Vitals
from runner.store import Acceptance, Intent, Journal, Recovery, RunDir, SessionStart

LIMIT = LimitReached(Problem("the time limit is reached", "limits.max_s 5"))


def config_of(**target: Any) -> RunConfig:
    return RunConfig.model_validate({"name": "t", "request": {"model": "m"}, "target": target})


def history_of(in_flight: InFlight, **statuses: int) -> History:
    meter = Meter()
    meter.counts.statuses.update(statuses)
    session = SessionInfo("t", started=1.0, rows=10)
    return History(meter, in_flight, session, Recovery(10), next_session=0)


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def end(run_dir: RunDir, history: History, ended_by: RunnerError | None, **target: Any) -> tuple[int, str]:
    """Sum up; return the exit code and all messages."""
    result = sum_up(config_of(**target), run_dir, history, Vitals(), ended_by)
    return result.exit_code, "\n".join(result.messages).replace(str(run_dir.path), "DIR")


def status_of(run_dir: RunDir) -> str:
    status: str = json.loads(run_dir.summary.read_bytes())["run"]["status"]
    return status


def test_a_complete_run_says_where_its_results_are(run_dir: RunDir) -> None:
    history = history_of(InFlight(total=10, finished=10), completed=10)
    assert end(run_dir, history, None) == (0, "results are in DIR/results.jsonl")
    assert status_of(run_dir) == "complete"


def test_statuses_that_can_be_retried_are_named(run_dir: RunDir) -> None:
    history = history_of(InFlight(total=10, finished=10), completed=7, failed=2, expired=1)
    code, said = end(run_dir, history, None)
    assert code == 1
    assert said.splitlines()[1] == "3 did not end completed; --retry failed,expired retries them"


@pytest.mark.parametrize(
    ("ended_by", "code", "status"),
    [(Interrupted(2), 130, "interrupted"), (Interrupted(15), 143, "interrupted"), (LIMIT, 3, "stopped")],
)
def test_a_run_that_ends_early_says_why_and_how_to_continue(
    run_dir: RunDir, ended_by: RunnerError, code: int, status: str
) -> None:
    history = history_of(InFlight(total=10, finished=4), completed=4)
    assert end(run_dir, history, ended_by) == (
        code,
        f"{ended_by}\ncontinue with the same command; results so far are in DIR/results.jsonl",
    )
    assert status_of(run_dir) == status


def test_open_jobs_are_counted_with_the_command_that_cancels_them(run_dir: RunDir) -> None:
    history = history_of(InFlight(total=5000, finished=4, outstanding=1234, announced=2), completed=4)
    said = end(run_dir, history, LIMIT)[1].splitlines()
    assert said[1] == (
        "1,234 jobs are still open at the service, and billable; `runner cancel DIR` asks it to end them"
    )
    assert said[2] == "2 requests were sent without an acknowledgement: perhaps billable"


def test_open_batches_cannot_be_cancelled(run_dir: RunDir) -> None:
    history = history_of(InFlight(total=50, outstanding=20))
    said = end(run_dir, history, LIMIT, mode="batch")[1].splitlines()
    assert said[1] == "20 jobs are still open at the service, and billable; a batch cannot be cancelled"


def test_a_run_of_which_nothing_was_accepted_does_not_offer_to_continue(run_dir: RunDir) -> None:
    assert end(run_dir, history_of(InFlight(total=10)), NothingAccepted("all rejected")) == (
        3,
        "all rejected",
    )


def test_after_a_write_error_the_files_show_what_is_open(run_dir: RunDir) -> None:
    journal = Journal(run_dir.journal)
    journal.write(SessionStart(at=1.0, number=0))
    for row in range(5):
        journal.write(Intent(row=row, custom_id=f"row-{row}", key="key", due=1.0, at=1.0))
    for row in range(3):
        journal.write(Acceptance(row=row, job=f"job-{row}", kind="m", attempts=1, at=1.0))
    journal.log.close()
    history = history_of(InFlight(total=10, outstanding=7, announced=0))
    said = end(run_dir, history, StorageError("no space left"))[1]
    assert "3 jobs are still open" in said
    assert "2 requests were sent without an acknowledgement" in said


def test_a_summary_that_cannot_be_written_makes_a_complete_run_end_with_3(run_dir: RunDir) -> None:
    run_dir.summary.mkdir()
    code, said = end(run_dir, history_of(InFlight(total=10, finished=10), completed=10), None)
    assert code == 3
    assert "summary.json: cannot be written" in said


def test_the_first_error_counts_and_not_that_of_the_summary(run_dir: RunDir) -> None:
    run_dir.summary.mkdir()
    code, said = end(run_dir, history_of(InFlight(total=10)), Interrupted(2))
    assert code == 130
    assert "cannot be written" not in said


@pytest.mark.parametrize(
    "before", [b"", b"not json", b"[]", b'{"run": {"status": "stopped"}, "requests": {}}', None]
)
def test_a_complete_run_has_its_summary_whatever_stood_there(run_dir: RunDir, before: bytes | None) -> None:
    if before is not None:
        run_dir.summary.write_bytes(before)
    history = history_of(InFlight(total=10, finished=10), completed=10)
    result = report_complete(config_of(), run_dir, history, ["a note"])

    assert result.exit_code == 0
    assert result.messages == (
        "a note",
        f"{run_dir.path} is complete: nothing was sent; --new starts over",
    )
    assert status_of(run_dir) == "complete"


def test_a_summary_that_says_the_same_is_not_written_again(run_dir: RunDir) -> None:
    history = history_of(InFlight(total=10, finished=10), completed=9, failed=1)
    sum_up(config_of(), run_dir, history, Vitals(), None)
    before = run_dir.summary.read_bytes()
    result = report_complete(config_of(), run_dir, history, [])

    assert result.exit_code == 1
    assert result.messages[-1] == "1 did not end completed; --retry failed retries them"
    assert run_dir.summary.read_bytes() == before
