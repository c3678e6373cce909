"""The main job in batch mode over real sockets: every row once with its own answer, whatever the faults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from runner.batch.names import wire_id
from runner.simulator import answer_to
from tests.batch.in_process import Line, Runs, Service
from tests.processes import Shell, Simulator

TRANSPORTS = pytest.mark.parametrize("transport", ["aiohttp", "openai"])


def assert_own_answer(line: Line, prompt: str) -> None:
    body = line["response"]["body"]
    text = body["output"][0]["content"][0]["text"]
    assert text == answer_to(prompt, body["usage"]["output_tokens"])


@pytest.mark.parametrize(("transport", "rows", "batches"), [("aiohttp", 1000, 7), ("openai", 300, 2)])
def test_each_row_comes_back_once_with_its_own_answer(
    simulate: Callable[..., Simulator], shell: Shell, transport: str, rows: int, batches: int
) -> None:
    simulator = simulate(latency={"type": "lognormal", "mean_s": 0.2, "sigma": 0.4})
    config = shell.config(
        target={"base_url": simulator.base_url, "mode": "batch", "transport": transport},
        source={"count": rows, "prompt": "Row {{ i }}"},
        batch={"max_requests": 150},
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(rows)
    for line in shell.results():
        assert line["custom_id"] == f"row-{line['row']}"
        assert line["attempts"] == 1
        assert_own_answer(line, f"Row {line['row']}")
    stats = simulator.stats()
    assert stats["executed"] == stats["delivered"] == stats["result_gets"] == rows
    assert stats["batches"] == stats["batch_posts"] == batches
    assert stats["polls_after_delivery"] == stats["posts"] == stats["gets"] == 0
    requests = shell.summary()["requests"]
    assert (requests["completed"], requests["open"], requests["unsent"]) == (rows, 0, 0)


ODD_IDS = [
    "plain-1", "UPPER", "upper", "Zoë", "a b", "a/b?c#d", "-dash", "_under", "x" * 64, "x" * 65, "x" * 200,
    "日本語", "😀", "tab\there", 'quo"te', "back\\slash", "%2F", ".", "..", "0", "a\nb",
]  # fmt: skip


@TRANSPORTS
def test_ids_of_every_sort_are_renamed_for_the_service_and_kept_in_the_results(
    serve: Callable[..., Service], go: Runs, transport: str
) -> None:
    service = serve()
    ids = [*ODD_IDS, wire_id("UPPER"), f"{wire_id('UPPER')}-2", "Zoë!"]
    source = go.lines([{"custom_id": it, "input": f"I am {it}"} for it in ids])
    target, batch = {"transport": transport}, {"max_requests": 1000}
    run = go(go.config(service.base_url, source=source, target=target, batch=batch))
    assert run.exit_code == 0, run.errors
    assert run.statuses == {"completed": len(ids)}
    for line in run.results:
        assert line["custom_id"] == ids[line["row"]]
        assert_own_answer(line, f"I am {ids[line['row']]}")
    (made,) = service.batches()
    at_service = json.loads(service.get(f"/v1/batches/{made['id']}"))["request_status"]
    assert {it for it in ids if it in at_service} >= {"plain-1", "upper", "x" * 64, "0"}


def test_rows_of_all_shapes_go_into_one_batch_and_none_becomes_a_background_job(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    c = {"custom_id": "c", "method": "POST", "url": "/v1/responses", "body": {"input": "c", "model": "other"}}
    rows: list[Mapping[str, object]] = [
        {"input": "a", "temperature": 0.5, "background": False},
        {"custom_id": "b", "params": {"input": "b", "background": True}},
        c,
    ]
    run = go(go.config(service.base_url, source=go.lines(rows), request={"background": True}))
    assert run.exit_code == 0, run.errors
    assert [run.statuses, service.stats()["batches"]] == [{"completed": 3}, 1]
    models = {line["custom_id"]: line["response"]["body"]["model"] for line in run.results}
    assert models == {"row-0": "m", "b": "m", "c": "other"}


@TRANSPORTS
def test_polls_and_fetches_use_as_many_connections_as_poll_concurrency(
    serve: Callable[..., Service], go: Runs, transport: str
) -> None:
    service = serve(exchange_s=0.01)
    run = go(
        go.config(
            service.base_url,
            rows=60,
            poll={"concurrency": 3},
            batch={"max_requests": 20, "concurrency": 1},
            target={"transport": transport},
        )
    )
    assert run.exit_code == 0, run.errors
    assert 3 <= service.stats()["peak_connections"] <= 3 + 1


@TRANSPORTS
def test_requests_that_do_not_complete_keep_the_error_of_the_service_and_their_cost(
    serve: Callable[..., Service], go: Runs, transport: str
) -> None:
    outcomes = {"failed": 0.2, "incomplete": 0.2, "cancelled": 0.2, "expired": 0.2}
    service = serve(outcomes=outcomes)
    run = go(go.config(service.base_url, rows=100, target={"transport": transport}))
    assert run.exit_code == 1, run.errors
    assert run.statuses == Counter(job["status"] for job in service.jobs())
    assert set(run.statuses) == {"completed", *outcomes}
    assert run.ended("failed")[0]["error"]["message"] == "The model failed to generate a response."
    assert run.ended("expired")[0]["error"]["code"] == "expired"
    assert run.ended("incomplete")[0]["error"]["message"] == "stopped by max_output_tokens"
    assert run.ended("cancelled")[0]["error"]["message"]
    usages = [line["response"]["body"]["usage"]["output_tokens"] for line in run.results]
    assert sum(usages) == run.summary["tokens"]["output"] > 0
    assert all(line["response"]["body"]["usage"]["output_tokens"] for line in run.ended("incomplete"))


KINDS = {
    "500": "500", "502": "502", "html": "502", "reset": "reset", "lost": "reset", "cut": "cut", "404": "gone",
    "empty": "empty", "not_json": "not_json", "not_object": "not_object",
}  # fmt: skip
"""Kinds of faults, and the cause under which each is counted."""
NO_FAULTS_OF_A_LIST = ("404", "not_object")
"""Faults of a status that are answers of a service without a list, should they hit the list."""
REPEATED_BY_THE_LIBRARY = ("lost", "reset")
"""Faults after which the SDK's client repeats a GET on a new connection, uncounted."""


def expected_causes(service: Service, transport: str, tables: tuple[str, ...]) -> Counter[str]:
    """Return how often each cause must have been counted for the faults that the service injected."""
    causes: Counter[str] = Counter()
    for table in tables:
        for kind, count in service.stats()["faults"].get(table, {}).items():
            if transport == "aiohttp" or kind not in REPEATED_BY_THE_LIBRARY:
                causes[KINDS[kind]] += count
    return causes


@TRANSPORTS
def test_results_and_statuses_arrive_through_faults_of_every_kind(
    serve: Callable[..., Service], go: Runs, transport: str
) -> None:
    results = dict.fromkeys(KINDS, 0.05)
    statuses = {kind: 0.05 for kind in KINDS if kind not in NO_FAULTS_OF_A_LIST}
    service = serve(faults={"result": results, "status": statuses})
    config = go.config(
        service.base_url, rows=80, target={"transport": transport}, batch={"max_requests": 4, "max_open": 20}
    )
    run = go(config)
    assert (run.exit_code, run.statuses) == (0, {"completed": 80}), run.errors
    expected = expected_causes(service, transport, ("result", "status"))
    assert expected.total() > 40
    retries = run.summary["retries"]
    counted = Counter(retries["poll"]) + Counter(retries["submit"])
    if transport == "openai":
        counted = Counter({cause: count for cause, count in counted.items() if cause != "reset"})
    assert counted == expected
    stats = service.stats()
    assert stats["executed"] == stats["delivered"] == 80


@TRANSPORTS
def test_batches_whose_acknowledgements_are_lost_in_every_way_exist_once(
    serve: Callable[..., Service], go: Runs, transport: str
) -> None:
    kinds = ["lost", "cut", "empty", "not_json", "no_id", "not_object", "not_utf8"]
    service = serve(faults={"batch": dict.fromkeys(kinds, 1 / len(kinds))}, idempotency=False)
    target = {"idempotency_header": None, "transport": transport}
    run = go(go.config(service.base_url, rows=60, target=target, batch={"max_requests": 4, "max_open": 20}))
    assert (run.exit_code, run.statuses) == (0, {"completed": 60}), run.errors
    stats = service.stats()
    assert stats["batches"] == stats["batch_posts"] == 15
    assert stats["executed"] == 60
    assert len(stats["faults"]["batch"]) > 3
    assert sum(run.summary["retries"]["submit"].values()) == 15
    assert {line["attempts"] for line in run.results} == {1}
