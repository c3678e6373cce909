"""Limits in batch mode: the run stops early with 3, and the same command goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.batch.conftest import Runs, Service

PRICES = {"input": 1.0, "output": 100.0}


@pytest.mark.parametrize("batch", [{"max_requests": 10}, {"max_requests": 100_000}])
def test_a_budget_is_kept_with_what_is_in_flight_counted_in(
    serve: Callable[..., Service], go: Runs, batch: dict[str, Any]
) -> None:
    service = serve()
    config = go.config(service, rows=1000, prices=PRICES, batch=batch, limits={"max_cost_usd": 1.5})
    told = go(config)
    assert told.exit_code == 3, told.errors
    assert "limits.max_cost_usd 1.5" in told.errors
    assert 0.95 * 1.5 < told.summary["cost_usd"] < 1.05 * 1.5
    assert told.summary["requests"]["open"] == 0
    assert service.stats()["executed"] == len(told.results), "nothing was paid for that is not here"
    assert go(config).exit_code == 3
    assert service.stats()["executed"] == len(told.results)
    told = go(config, "--set", "limits.max_cost_usd=100")
    assert (told.exit_code, told.statuses) == (0, {"completed": 1000}), told.errors
    assert service.stats()["executed"] == 1000


def test_until_the_first_result_tells_what_one_costs_few_are_sent(stub_batches: Any, go: Runs) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: stub.all_done(batch_id, "RUNNING")
        limits = {"max_cost_usd": 5, "max_s": 0.5, "drain_s": 0.1}
        told = go(
            go.config(stub.base_url, rows=500, prices=PRICES, batch={"max_requests": 500}, limits=limits)
        )
    assert told.exit_code == 3, told.errors
    assert sum(len(body["requests"]) for body in stub.posts) == 20


def test_too_many_failures_stop_the_run_and_a_continued_one_sends_nothing_until_told(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(outcomes={"failed": 1.0})
    config = go.config(service, rows=500, batch={"max_open": 2}, limits={"max_failures": 20})
    told = go(config)
    assert told.exit_code == 3, told.errors
    assert "limits.max_failures 20" in told.errors
    assert 20 <= told.statuses["failed"] <= 20 + 2 * 10, "those in open batches come on top"
    batches = service.stats()["batches"]
    assert go(config).exit_code == 3
    assert service.stats()["batches"] == batches
    told = go(config, "--set", "limits.max_failures=null")
    assert (told.exit_code, told.statuses) == (1, {"failed": 500}), told.errors
    assert service.stats()["executed"] == 500


def test_rows_that_are_rejected_count_as_failures(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    rows = [{"input": f"Row {i}", "temperature": 9 if 20 <= i < 40 else 1} for i in range(200)]
    told = go(go.config(service, source=go.lines(rows), batch={"concurrency": 1}, limits={"max_failures": 5}))
    assert told.exit_code == 3, told.errors
    assert 5 <= told.statuses["rejected"] <= 6, "the one under way comes on top"


def test_after_max_s_nothing_more_is_sent_and_what_is_open_is_drained(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(latency={"type": "constant", "mean_s": 0.2})
    config = go.config(service, rows=300, batch={"max_open": 2}, limits={"max_s": 0.5})
    told = go(config)
    assert told.exit_code == 3, told.errors
    assert "limits.max_s 0.5: the time limit is reached" in told.errors
    assert told.summary["requests"]["open"] == 0
    assert 0 < told.statuses["completed"] < 300
    assert service.stats()["executed"] == told.statuses["completed"]
    told = go(config, "--set", "limits.max_s=null", "--set", "batch.max_open=20")
    assert (told.exit_code, told.statuses) == (0, {"completed": 300}), told.errors
    assert service.stats()["executed"] == 300


def test_jobs_still_open_when_the_drain_of_a_limit_ends_are_told(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(latency={"type": "constant", "mean_s": 3600})
    told = go(go.config(service, rows=25, limits={"max_s": 0.3, "drain_s": 0.1}))
    assert told.exit_code == 3, told.errors
    assert "25 jobs are still open at the service, and billable" in told.errors
    assert told.summary["run"]["status"] == "stopped"


@pytest.mark.parametrize("kind", ["500", "502", "reset"])
def test_an_outage_ends_the_run_uses_up_no_row_and_the_same_command_goes_on(
    serve: Callable[..., Service], go: Runs, tmp_path: Path, kind: str
) -> None:
    state = tmp_path / "state.jsonl"
    service = serve(state)
    config = go.config(service, rows=60, limits={"max_outage_s": 0.5})
    assert go(config, "--limit", "20").exit_code == 0
    service.stop()
    service = serve(state, service.port, faults={"batch": {kind: 1.0}, "status": {kind: 1.0}})
    told = go(config)
    assert told.exit_code == 3, told.errors
    assert told.statuses == {"completed": 20}
    service.stop()
    service = serve(state, service.port)
    told = go(config)
    assert (told.exit_code, told.statuses) == (0, {"completed": 60}), told.errors
    assert service.stats()["executed"] == 60


def test_a_batch_that_the_service_cannot_digest_is_rejected_and_the_others_complete(
    stub_batches: Any, go: Runs
) -> None:
    """While the service answers other questions: the last batch is not done before that one is given up."""

    def look(batch_id):
        is_waiting = batch_id == "batch_2" and len(go.read("results.jsonl")) < 30
        return stub.all_done(batch_id, "RUNNING" if is_waiting else "COMPLETED")

    with stub_batches() as stub:
        accept, stub.look = stub.create, look
        oops = 503, {"error": {"message": "cannot digest that"}}
        stub.create = lambda body: oops if body["requests"][0]["custom_id"] == "row-10" else accept(body)
        retry = {"max_attempts": 4, "base_s": 0.05, "cap_s": 0.2}
        told = go(go.config(stub.base_url, rows=40, submit={"retry": retry}, limits={"max_outage_s": 60}))
    assert told.exit_code == 1, told.errors
    assert told.statuses == {"completed": 30, "rejected": 10}
    assert told.rows("rejected") == set(range(10, 20))
    assert {line["error"]["message"] for line in told.ended("rejected")} == {"cannot digest that"}
    assert min(line["attempts"] for line in told.ended("rejected")) >= 4
