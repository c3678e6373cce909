"""A run that is killed at any byte, as often as you like, ends as it would have ended without the kills."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from runner.records import ResultStatus
from runner.store import Recovery, read_marks, read_results
from runner.store.files import read_lines
from tests.store.model_run import KILLED, TO_ITS_END, History, Run, Session, histories, run_of


def final(run: Run) -> dict[int, tuple[ResultStatus, int]]:
    """Return status and epoch of each row, and assert that the run is complete."""
    written = [(head.row, (head.status, head.epoch)) for head in read_results(run.dir.results)]
    final = dict(written)
    assert len(written) == len(final), "a row has two lines"
    epochs = read_marks(run.dir.journal).epochs
    assert {row: epoch for row, (_, epoch) in final.items()} == {
        row: epochs.get(row, 0) for row in range(run.rows)
    }
    superseded = sorted((old.row, old.epoch) for old in read_results(run.dir.superseded))
    assert superseded == sorted((row, old) for row, epoch in epochs.items() for old in range(epoch))
    return final


def retry_until_all_completed(run: Run, history: History) -> None:
    """Retry failed rows as often as needed."""
    for _ in range(max(history.failures)):
        run.session(Session(retry=True))
    assert final(run) == {row: ("completed", failures) for row, failures in enumerate(history.failures)}


@given(history=histories())
@settings(max_examples=300)
def test_each_row_ends_once_in_its_last_epoch_and_every_try_was_executed_once(history: History) -> None:
    with run_of(history) as run:
        ended = final(run)
        superseded = [old.status for old in read_results(run.dir.superseded)]
    tries = {(row, epoch) for row, (_, last) in ended.items() for epoch in range(last + 1)}
    assert run.service.executed == dict.fromkeys(tries, 1)
    assert ended == {row: (history.status(row, epoch), epoch) for row, (_, epoch) in ended.items()}
    assert set(superseded) <= {"failed"}
    retries = sum(session.retry for session in history.sessions)
    assert all(epoch <= min(retries, history.failures[row]) for row, (_, epoch) in ended.items())


@given(history=histories())
@settings(max_examples=200)
def test_the_final_results_are_those_of_a_run_that_was_never_killed(history: History) -> None:
    """With retries they are determined only once nothing is left to retry."""
    with run_of(history) as run, run_of(replace(history, sessions=[])) as uninterrupted:
        if not any(session.retry for session in history.sessions):
            assert final(run) == final(uninterrupted)
        retry_until_all_completed(run, history)
        retry_until_all_completed(uninterrupted, history)
        assert final(run) == final(uninterrupted)


ENDED_THEN_RETRIED = KILLED.map(lambda killed: [TO_ITS_END, replace(killed[0], retry=True), *killed[1:]])


@given(history=histories(ENDED_THEN_RETRIED))
@settings(max_examples=200)
def test_after_a_kill_at_any_byte_of_a_retry_each_row_is_reopened_or_not_and_no_line_is_lost(
    history: History,
) -> None:
    """A line must be there at every moment: a service may forget what it has delivered."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), history)
        before: set[bytes] = set()
        for session in (*history.sessions, TO_ITS_END):
            run.session(session)
            lines = {line for path in (run.dir.results, run.dir.superseded) for line in read_lines(path)}
            assert lines >= before
            before = lines
        assert all(epoch <= history.failures[row] for row, (_, epoch) in final(run).items())
        retry_until_all_completed(run, history)
    assert set(run.service.executed.values()) == {1}


@given(history=histories())
@settings(max_examples=200)
def test_without_keys_a_request_that_may_have_been_accepted_is_never_sent_again(history: History) -> None:
    with run_of(history, keys=False) as run:
        ended = final(run)
        superseded = {(old.row, old.epoch): old.status for old in read_results(run.dir.superseded)}
    tries = superseded | {(row, epoch): status for row, (status, epoch) in ended.items()}
    executed = run.service.executed
    for (row, epoch), status in tries.items():
        if status == "uncertain":
            assert (row, epoch) in run.unknown, "the service had answered"
            assert executed[row, epoch] <= 1
        else:
            assert (status, executed[row, epoch]) == (history.status(row, epoch), 1)
    assert executed.keys() <= tries.keys()


@given(history=histories())
@settings(max_examples=100)
def test_a_killed_run_reads_the_same_twice_and_the_same_after_its_repair(history: History) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), history)
        for session in history.sessions:
            run.session(session)
            files = contents(run)
            first = state(run.recover())
            assert state(run.recover()) == first
            assert contents(run) == files
            run.dir.repair()
            assert state(run.recover()) == first


def contents(run: Run) -> dict[str, bytes]:
    """Return the content of each log, by name."""
    return {path.name: path.read_bytes() for path in run.dir.logs if path.exists()}


def state(recovery: Recovery) -> dict[str, Any]:
    """Return all attributes in a form that can be compared."""
    return vars(recovery) | {"done": bytes(recovery.done._bits)}
