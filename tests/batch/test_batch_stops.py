"""Signals, kills and commands that continue a run: nothing is lost, and nothing is sent twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batch.in_process import Finished, Runs, Service
from tests.batch.stub import serving
from tests.processes import Process, Shell

SLOW_TAIL = {"type": "bimodal", "fast_s": 0.02, "slow_s": 0.7, "slow_share": 0.3, "sigma": 0.01}
SOON_S = 60
"""Patience with a process under any load; without the signal it would run many times as long."""
STOP_SOON = {"max_s": 0.3, "drain_s": 0.1}


def ended(process: Process, code: int) -> str:
    """Wait for a process, check its exit code, and return what it said."""
    _, errors = process.communicate(timeout=SOON_S)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    return errors


def assert_the_next_session_completes(
    go: Runs, config: Path, service: Service, rows: int, batches: int
) -> Finished:
    run = go(config)
    assert (run.exit_code, run.statuses) == (0, {"completed": rows}), run.errors
    stats = service.stats()
    assert (stats["batches"], stats["executed"]) == (batches, rows)
    return run


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_an_upload_waits_for_the_acknowledgement_and_collects_the_batch(
    serve: Callable[..., Service], go: Runs, shell: Shell, signum: int, code: int
) -> None:
    service = serve(batches={"create_s": 0.3})
    config = go.config(service.base_url, rows=60, batch={"concurrency": 1, "max_open": 1})
    process = shell.start("run", config)
    shell.wait_for(process, lambda: service.stats()["batch_posts_now"] == 1)
    process.send_signal(signum)
    errors = ended(process, code)
    assert "nothing more is sent" in errors
    assert "continue with the same command" in errors
    run = go.finished(code, errors)
    posted = service.stats()["batch_posts"]
    assert posted < 6
    assert run.statuses == {"completed": 10 * posted}
    assert len(run.entries("batch_accepted")) == posted


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_during_an_upload_that_brings_no_answer_leaves_the_batch_to_the_next_session(
    serve: Callable[..., Service], go: Runs, shell: Shell, tmp_path: Path, signals: int
) -> None:
    state = tmp_path / "state.jsonl"
    service = serve(state, faults={"batch": {"hang": 1.0}})
    limits = {"drain_s": 0.1 if signals == 1 else 3600, "max_outage_s": 0.6}
    config = go.config(service.base_url, rows=30, batch={"concurrency": 1}, limits=limits)
    process = shell.start("run", config)
    shell.wait_for(process, lambda: service.stats()["batch_posts_now"] == 1)
    process.send_signal(signal.SIGINT)
    if signals == 2:
        assert process.stderr is not None
        while "nothing more is sent" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
    assert "10 requests were sent without an acknowledgement: perhaps billable" in ended(process, 130)
    assert not list(go.dir.glob(".batch-*"))
    service.stop()
    service = serve(state, port=service.port)
    assert_the_next_session_completes(go, config, service, 30, 3)


def test_a_signal_while_results_are_collected_leaves_the_others_to_the_next_session(
    serve: Callable[..., Service], go: Runs, shell: Shell
) -> None:
    service = serve(latency=SLOW_TAIL)
    config = go.config(service.base_url, rows=60, batch={"max_requests": 20}, limits={"drain_s": 0})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(10))
    process.send_signal(signal.SIGINT)
    assert "are still open at the service, and billable" in ended(process, 130)
    before = go.read("results.jsonl")
    assert 10 <= len(before) < 60
    run = assert_the_next_session_completes(go, config, service, 60, 3)
    assert service.stats()["batch_posts"] == 3
    assert run.results[: len(before)] == before


def test_killed_again_and_again_each_row_ends_once_and_runs_once(
    serve: Callable[..., Service], go: Runs, shell: Shell
) -> None:
    service = serve(latency=SLOW_TAIL)
    config = go.config(service.base_url, rows=120, batch={"max_requests": 20, "max_open": 3})
    for least in (15, 60):
        assert shell.stop_after(least, "run", config) == -signal.SIGKILL
    run = assert_the_next_session_completes(go, config, service, 120, 6)
    assert "continuing" in run.errors
    assert {line["custom_id"] for line in run.results} == {f"row-{i}" for i in range(120)}
    assert run.summary["requests"]["completed"] == 120


def test_killed_in_the_middle_of_uploads_each_batch_is_at_the_service_once(
    serve: Callable[..., Service], go: Runs, shell: Shell
) -> None:
    service = serve(batches={"create_s": 0.2})
    config = go.config(service.base_url, rows=60, target={"idempotency_header": None})
    process = shell.start("run", config)
    shell.wait_for(process, lambda: service.stats()["batch_posts_now"] == 2)
    process.kill()
    process.communicate()
    assert len(go.finished(-9, "").entries("batch_accepted")) == 1
    run = assert_the_next_session_completes(go, config, service, 60, 6)
    assert "20 to be confirmed" in run.errors


def test_an_outage_stops_the_run_and_the_same_command_continues_it(
    serve: Callable[..., Service], go: Runs, tmp_path: Path
) -> None:
    state = tmp_path / "state.jsonl"
    service = serve(state)
    config = go.config(service.base_url, rows=60, limits={"max_outage_s": 0.5})
    assert go(config, "--limit", "20").exit_code == 0
    service.stop()
    service = serve(state, service.port, faults={"batch": {"reset": 1.0}, "status": {"reset": 1.0}})
    run = go(config)
    assert (run.exit_code, run.statuses) == (3, {"completed": 20}), run.errors
    service.stop()
    service = serve(state, service.port)
    assert_the_next_session_completes(go, config, service, 60, 6)


def test_jobs_that_are_outstanding_when_the_drain_of_a_limit_ends_are_reported(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(latency={"type": "constant", "mean_s": 3600})
    run = go(go.config(service.base_url, rows=25, limits=STOP_SOON))
    assert run.exit_code == 3, run.errors
    assert "25 jobs are still open at the service, and billable" in run.errors
    assert run.summary["run"]["status"] == "stopped"


def test_rows_beyond_the_limit_are_sent_when_the_limit_is_raised(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    config = go.config(service.base_url, rows=60)
    run = go(config, "--limit", "25")
    assert (run.exit_code, run.statuses) == (0, {"completed": 25}), run.errors
    assert sorted(it["request_counts"] for it in service.batches()) == [5, 10, 10]
    assert "is complete: nothing was sent" in go(config, "--limit", "25").errors
    assert_the_next_session_completes(go, config, service, 60, 7)


def test_outstanding_batches_beyond_a_lower_limit_are_collected(go: Runs) -> None:
    with serving() as stub:
        stub.poll = lambda batch_id: stub.all_done(batch_id, "RUNNING")
        config = go.config(stub.base_url, rows=60, limits=STOP_SOON)
        assert go(config, "--limit", "40").exit_code == 3
        stub.poll = stub.all_done
        run = go(config, "--limit", "15", "--set", "limits.max_s=null")
    assert (run.exit_code, run.statuses) == (0, {"completed": 40}), run.errors
    assert len(stub.posts) == 4


def test_batches_without_an_acknowledgement_beyond_a_lower_limit_are_found(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    config = go.config(service.base_url, rows=60)
    assert go(config, "--limit", "40").exit_code == 0
    journal = go.dir / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b"batch_accepted" not in line))
    (go.dir / "results.jsonl").write_bytes(b"")
    run = go(config, "--limit", "15")
    assert (run.exit_code, run.statuses) == (0, {"completed": 40}), run.errors
    assert (service.stats()["batches"], service.stats()["executed"]) == (4, 40)
    assert (run.summary["requests"]["total"], run.summary["requests"]["open"]) == (40, 0)


def test_rows_that_failed_are_retried_in_batches_of_their_own(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(outcomes={"failed": 0.4})
    config = go.config(service.base_url, rows=60)
    run = go(config)
    failed = run.rows("failed")
    assert (run.exit_code, len(failed) > 10) == (1, True)
    executed = service.stats()["executed"]
    run = go(config, "--retry", "failed")
    assert service.stats()["executed"] == executed + len(failed)
    assert {line["row"] for line in run.results if line.get("epoch") == 1} == failed
    assert len(run.results) == 60
    assert run.statuses["completed"] >= 60 - len(failed)


def test_retried_rows_whose_session_was_stopped_continue_under_their_new_epoch(go: Runs) -> None:
    with serving() as stub:
        stub.poll = lambda batch_id: stub.all_done(batch_id, "FAILED")
        stub.result = lambda _, name: (200, {"id": name, "status": "failed", "output": None})
        config = go.config(stub.base_url, rows=30)
        assert go(config).exit_code == 1
        stub.poll = lambda batch_id: stub.all_done(batch_id, "RUNNING")
        run = go(config, "--retry", "failed", "--set", "limits.max_s=0.3", "--set", "limits.drain_s=0.1")
        assert (run.exit_code, run.results) == (3, []), run.errors
        stub.poll, stub.result = stub.all_done, stub.answer
        run = go(config)
    assert (run.exit_code, run.statuses) == (0, {"completed": 30}), run.errors
    assert {line["epoch"] for line in run.results} == {1}
    assert len(stub.posts) == 6


def test_a_new_run_has_labels_and_keys_of_its_own(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    config = go.config(service.base_url, rows=20)
    assert go(config).exit_code == 0
    run = go(config, "--new")
    assert (run.exit_code, run.statuses) == (0, {"completed": 20}), run.errors
    assert service.stats()["batches"] == 4
    assert len({it["label"] for it in service.batches()}) == 4
    assert (go.dir.parent / "t.1/results.jsonl").exists()


@pytest.mark.parametrize("first", ["batch", "background"])
def test_a_run_keeps_its_mode(serve: Callable[..., Service], go: Runs, first: str) -> None:
    service = serve()
    other = "background" if first == "batch" else "batch"
    assert go(go.config(service.base_url, rows=20, target={"mode": first}), "--limit", "10").exit_code == 0
    run = go(go.config(service.base_url, rows=20, target={"mode": other}))
    assert run.exit_code == 2, run.errors
    assert "target.mode" in run.errors
    assert "--new" in run.errors
    assert service.stats()["executed"] == 10


def test_batch_mode_with_several_workers_is_refused(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    run = go(go.config(service.base_url, engine={"workers": 2}))
    assert run.exit_code == 2
    assert "engine.workers (2) must be 1: target.mode: batch runs in one process" in run.errors
    assert "engine.workers (3)" in go(go.config(service.base_url), "--workers", "3").errors
    assert service.stats()["connections"] <= 2, "only this test asked"
