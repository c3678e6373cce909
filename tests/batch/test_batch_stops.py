"""Signals, kills and orders to go on: nothing is lost, nothing is sent twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.batch.conftest import Runs, Service
from tests.processes import Shell

FOR_EVER = {"type": "constant", "mean_s": 3600}
SLOW_TAIL = {"type": "bimodal", "fast_s": 0.05, "slow_s": 1.5, "slow_share": 0.3, "sigma": 0.01}
SOON_S = 60
"""For a process under whatever load; what it would wait out is many times as long."""


def ended(process, code):
    _, errors = process.communicate(timeout=SOON_S)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    return errors


def assert_it_goes_on(go, config, service, rows, batches):
    told = go(config)
    assert (told.exit_code, told.statuses) == (0, {"completed": rows}), told.errors
    stats = service.stats()
    assert (stats["batches"], stats["executed"]) == (batches, rows)
    return told


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_an_upload_waits_for_the_acknowledgement_and_collects_the_batch(
    serve: Callable[..., Service], go: Runs, shell: Shell, signum: Any, code: int
) -> None:
    service = serve(batches={"create_s": 0.3})
    config = go.config(service, rows=60, batch={"concurrency": 1})
    process = shell.start("run", config)
    shell.wait_for(process, lambda: service.stats()["batch_posts_now"] == 1)
    process.send_signal(signum)
    errors = ended(process, code)
    assert "nothing more is sent" in errors
    assert "continue with the same command" in errors
    told = go.told(code, errors)
    posted = service.stats()["batch_posts"]
    assert posted < 6
    assert told.statuses == {"completed": 10 * posted}
    assert len(told.entries("batch_accepted")) == posted
    assert_it_goes_on(go, config, service, 60, 6)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_during_an_upload_that_brings_no_answer(
    serve: Callable[..., Service], go: Runs, shell: Shell, tmp_path: Path, signals: int
) -> None:
    state = tmp_path / "state.jsonl"
    service = serve(state, faults={"batch": {"hang": 1.0}})
    config = go.config(
        service, rows=30, batch={"concurrency": 1}, limits={"drain_s": 0.1 if signals == 1 else 3600}
    )
    process = shell.start("run", config)
    shell.wait_for(process, lambda: service.stats()["batch_posts_now"] == 1)
    process.send_signal(signal.SIGINT)
    if signals == 2:
        while "nothing more is sent" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
    assert "10 requests were sent without an acknowledgement: perhaps billable" in ended(process, 130)
    assert not list(go.dir.glob(".batch-*"))
    service.stop()
    service = serve(state, port=service.port)
    assert_it_goes_on(go, config, service, 30, 3)


def test_a_signal_while_results_are_collected_and_the_same_command_fetches_the_rest(
    serve: Callable[..., Service], go: Runs, shell: Shell
) -> None:
    service = serve(latency=SLOW_TAIL)
    config = go.config(service, rows=60, batch={"max_requests": 20}, limits={"drain_s": 0})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(10))
    process.send_signal(signal.SIGINT)
    assert "are still open at the service, and billable" in ended(process, 130)
    before = go.read("results.jsonl")
    assert 10 <= len(before) < 60
    told = assert_it_goes_on(go, config, service, 60, 3)
    assert service.stats()["batch_posts"] == 3
    assert told.results[: len(before)] == before


def test_killed_again_and_again_each_row_ends_once_and_ran_once(
    serve: Callable[..., Service], go: Runs, shell: Shell
) -> None:
    service = serve(latency=SLOW_TAIL)
    config = go.config(service, rows=200, batch={"max_requests": 20, "max_open": 3})
    for least in (15, 90):
        assert shell.stop_after(least, "run", config) == -signal.SIGKILL
    told = assert_it_goes_on(go, config, service, 200, 10)
    assert "continuing" in told.errors
    assert {line["custom_id"] for line in told.results} == {f"row-{i}" for i in range(200)}
    assert told.summary["requests"]["completed"] == 200


def test_killed_in_the_middle_of_uploads_each_batch_is_at_the_service_once(
    serve: Callable[..., Service], go: Runs, shell: Shell
) -> None:
    service = serve(batches={"create_s": 0.2})
    config = go.config(service, rows=60, target={"idempotency_header": None})
    process = shell.start("run", config)
    shell.wait_for(process, lambda: service.stats()["batch_posts_now"] == 2)
    process.kill()
    process.communicate()
    assert len(go.told(-9, "").entries("batch_accepted")) == 1, "the second is sent after it"
    told = assert_it_goes_on(go, config, service, 60, 6)
    assert "20 to be confirmed" in told.errors


@pytest.mark.parametrize("max_open", [2, 3])
def test_batches_of_an_earlier_session_have_places_too(stub_batches: Any, go: Runs, max_open: int) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: stub.all_done(batch_id, "RUNNING")
        limits = {"max_s": 0.3, "drain_s": 0.1}
        config = go.config(
            stub.base_url, rows=5000, batch={"max_requests": 10, "max_open": max_open}, limits=limits
        )
        assert go(config).exit_code == 3
        assert (stub.open, len(stub.posts)) == (max_open, max_open)
        assert go(config).exit_code == 3
        assert (stub.open, len(stub.posts)) == (max_open, max_open)


def test_a_limit_is_kept_and_what_is_left_is_sent_later(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    config = go.config(service, rows=60)
    told = go(config, "--limit", "25")
    assert (told.exit_code, told.statuses) == (0, {"completed": 25}), told.errors
    assert sorted(it["request_counts"] for it in service.batches()) == [5, 10, 10]
    assert "is complete: nothing was sent" in go(config, "--limit", "25").errors
    assert_it_goes_on(go, config, service, 60, 7)


def test_open_batches_beyond_a_smaller_limit_are_collected_too(stub_batches: Any, go: Runs) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: stub.all_done(batch_id, "RUNNING")
        config = go.config(stub.base_url, rows=60, limits={"max_s": 0.3, "drain_s": 0.1})
        assert go(config, "--limit", "40").exit_code == 3
        stub.look = stub.all_done
        told = go(config, "--limit", "15", "--set", "limits.max_s=null")
    assert (told.exit_code, told.statuses) == (0, {"completed": 40}), told.errors
    assert len(stub.posts) == 4


def test_rows_that_failed_are_tried_again_in_batches_of_their_own(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(outcomes={"failed": 0.4})
    config = go.config(service, rows=60)
    told = go(config)
    failed = told.rows("failed")
    assert (told.exit_code, len(failed) > 10) == (1, True)
    executed = service.stats()["executed"]
    told = go(config, "--retry", "failed")
    assert service.stats()["executed"] == executed + len(failed)
    assert {line["row"] for line in told.results if line.get("epoch") == 1} == failed
    assert len(told.results) == 60
    assert told.statuses["completed"] >= 60 - len(failed)


def test_rows_tried_again_and_killed_meanwhile_go_on_under_their_new_epoch(
    stub_batches: Any, go: Runs
) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: stub.all_done(batch_id, "FAILED")
        answer = stub.result
        stub.result = lambda batch_id, name: (200, {"id": name, "status": "failed", "output": None})
        config = go.config(stub.base_url, rows=30)
        assert go(config).exit_code == 1
        stub.look = lambda batch_id: stub.all_done(batch_id, "RUNNING")
        stop = ("--set", "limits.max_s=0.3", "--set", "limits.drain_s=0.1")
        told = go(config, "--retry", "failed", *stop)
        assert (told.exit_code, told.results) == (3, []), told.errors
        stub.look, stub.result = stub.all_done, answer
        told = go(config)
    assert (told.exit_code, told.statuses) == (0, {"completed": 30}), told.errors
    assert {line["epoch"] for line in told.results} == {1}
    assert len(stub.posts) == 6


def test_a_run_begun_afresh_has_labels_and_keys_of_its_own(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    config = go.config(service, rows=20)
    assert go(config).exit_code == 0
    told = go(config, "--new")
    assert (told.exit_code, told.statuses) == (0, {"completed": 20}), told.errors
    assert service.stats()["batches"] == 4
    assert len({it["label"] for it in service.batches()}) == 4
    assert (go.dir.parent / "t.1/results.jsonl").exists()


@pytest.mark.parametrize("first", ["batch", "background"])
def test_a_run_keeps_its_mode(serve: Callable[..., Service], go: Runs, first: str) -> None:
    service = serve()
    other = "background" if first == "batch" else "batch"
    assert go(go.config(service, rows=20, target={"mode": first}), "--limit", "10").exit_code == 0
    told = go(go.config(service, rows=20, target={"mode": other}))
    assert told.exit_code == 2, told.errors
    assert "target.mode" in told.errors
    assert "--new" in told.errors
    assert service.stats()["executed"] == 10


def test_several_workers_and_batches_do_not_go_together(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    told = go(go.config(service, engine={"workers": 2}))
    assert told.exit_code == 2
    assert "engine.workers (2) must be 1: target.mode: batch runs in one process" in told.errors
    assert "engine.workers (3)" in go(go.config(service), "--workers", "3").errors
    assert service.stats()["connections"] <= 2, "nobody but this test asked"
