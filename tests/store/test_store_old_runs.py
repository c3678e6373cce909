"""Run directories of version 0.1.0 are read as that version left them, so that they can be continued."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from runner.config import RunConfig, load
from runner.measure.history import recall
from runner.policy.idempotency import idempotency_key
from runner.source import Source
from runner.store import (
    Intent,
    Recovery,
    ResultHead,
    ResultReader,
    RunDir,
    check_unchanged,
    ignore,
    read_results,
    recover,
)
from runner.store.journal import read_journal
from tests.old_runs import BEGAN, KEY, NAMES, ROWS, copy_run


def recovered(run_dir: RunDir) -> tuple[Recovery, dict[int, ResultHead]]:
    """Return the state of a run, and its results by row."""
    results: dict[int, ResultHead] = {}
    recovery = recover(run_dir, ROWS, lambda head: results.update({head.row: head}), ignore)
    return recovery, results


def config_of(run_dir: RunDir) -> RunConfig:
    return load(run_dir.config, environ={})


def test_a_run_killed_during_a_retry_is_recovered(tmp_path: Path) -> None:
    run_dir = copy_run("run-0.1.0a", tmp_path)
    recovery, results = recovered(run_dir)

    assert sorted(results) == [0, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert recovery.epochs == {0: 1, 1: 1, 3: 1}
    assert {row: head.epoch for row, head in results.items() if head.epoch} == {0: 1}
    assert {row: job.epoch for row, job in recovery.outstanding.items()} == {1: 1, 3: 1, 12: 0}
    assert recovery.outstanding[12].id == "resp_36199916319a996d867b8190"
    assert list(recovery.unacknowledged) == [13]
    assert not recovery.has_superseded
    assert [(old.row, old.status) for old in read_results(run_dir.superseded)] == [
        (0, "failed"), (1, "failed"), (3, "failed"),
    ]  # fmt: skip


def test_a_run_in_batch_mode_is_recovered(tmp_path: Path) -> None:
    recovery, results = recovered(copy_run("run-0.1.0a-batch", tmp_path))
    batches = {number: (list(batch.rows), batch.accepted) for number, batch in recovery.batches.items()}

    assert sorted(results) == [*range(9), 11, 12, 13]
    assert {number: rows for number, (rows, _) in batches.items()} == {
        1: [9],
        2: [10, 14],
        3: [15, 16, 17, 18, 19],
    }
    assert {number: accepted and accepted.id for number, (_, accepted) in batches.items()} == {
        1: "batch_4e7413fbf44bcde134aa650d",
        2: "batch_a5573a76c42b82adbab51e18",
        3: None,
    }
    assert (recovery.outstanding_count, recovery.unacknowledged_count) == (3, 5)
    assert (recovery.next_batch, recovery.has_accepted_batch) == (4, True)


def test_a_run_with_two_workers_is_recovered(tmp_path: Path) -> None:
    run_dir = copy_run("run-0.1.0a-workers", tmp_path)
    recovery, results = recovered(run_dir)

    assert [path.name for path in run_dir.journals] == ["journal.jsonl", "journal-0.jsonl", "journal-1.jsonl"]
    assert sorted(results) == [0, 1, 2, 3, 4, 5]
    assert sorted(recovery.outstanding) == [6, 7, 8, 12, 14]
    assert list(recovery.unacknowledged) == [15]


@pytest.mark.parametrize(
    ("name", "statuses", "sessions"),
    [
        ("run-0.1.0a", {"completed": 6, "failed": 4}, 2),
        ("run-0.1.0a-batch", {"completed": 12}, 1),
        ("run-0.1.0a-workers", {"completed": 6}, 1),
    ],
)
def test_the_totals_of_an_old_run_are_recalled(
    tmp_path: Path, name: str, statuses: dict[str, int], sessions: int
) -> None:
    run_dir = copy_run(name, tmp_path)
    manifest = run_dir.read_manifest()
    history = recall(run_dir, manifest, manifest.rows)

    assert (manifest.version, manifest.rows) == ("0.1.0", ROWS)
    assert +history.meter.counts.statuses == statuses
    assert history.next_session == sessions
    assert history.session.total_wall_s > 1
    assert history.meter.counts.polls > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_results_of_an_old_run_are_read(tmp_path: Path, name: str) -> None:
    run_dir = copy_run(name, tmp_path)
    _, results = recovered(run_dir)
    whole = list(ResultReader(run_dir.path))

    assert [it.row for it in whole] == list(results)
    assert all(it.response and bytes(it.response.body).startswith(b'{"id":"resp_') for it in whole)


@pytest.mark.parametrize("name", NAMES)
def test_an_old_run_is_unchanged_for_its_own_config_and_key(tmp_path: Path, name: str) -> None:
    run_dir = copy_run(name, tmp_path)
    config, manifest = config_of(run_dir), run_dir.read_manifest()

    check_unchanged(manifest, config, Source(config).fingerprint(), KEY, run_dir.path)


@pytest.mark.parametrize("name", ["run-0.1.0a", "run-0.1.0a-workers"])
def test_the_requests_of_an_old_run_have_the_same_keys_today(tmp_path: Path, name: str) -> None:
    run_dir = copy_run(name, tmp_path)
    source, run_id = Source(config_of(run_dir)), run_dir.read_manifest().run_id
    requests = {row.i: source.request(row) for block in source.blocks() for row in block}
    intents = [it for path in run_dir.journals for it in read_journal(path) if isinstance(it, Intent)]

    assert len(intents) > 10
    for intent in intents:
        request = requests[intent.row]
        assert intent.custom_id == request.custom_id
        assert intent.key == idempotency_key(run_id, request.custom_id, intent.epoch, request.body)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_can_be_as_old_as_a_test_needs(tmp_path: Path, name: str) -> None:
    old, recent = copy_run(name, tmp_path / "old"), copy_run(name, tmp_path / "recent", age_s=60)
    (old_state, old_results), (state, results) = recovered(old), recovered(recent)

    assert BEGAN <= min(head.timing.due for head in old_results.values()) < BEGAN + 5
    shifts = {round(head.timing.done - old_results[row].timing.done, 3) for row, head in results.items()}
    shifts |= {round(job.sent - old_state.outstanding[row].sent, 3) for row, job in state.outstanding.items()}
    assert len(shifts) <= 2, "one number, rounded up or down"
    assert max(shifts) - min(shifts) < 0.002
    assert Counter(head.status for head in results.values()) == Counter(
        head.status for head in old_results.values()
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_file_of_an_old_run_has_the_key(tmp_path: Path, name: str) -> None:
    for path in copy_run(name, tmp_path).path.iterdir():
        assert KEY not in path.read_text()
