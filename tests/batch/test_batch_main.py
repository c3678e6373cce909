"""The main job in batch mode: every row once, with its own answer, within all limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from runner.batch.names import wire_id
from runner.simulator import answer_to
from tests.batch.conftest import Runs, Service
from tests.processes import Shell, Simulator


def assert_own_answer(line, prompt):
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
        timing = line["timing"]
        assert timing["due"] <= timing["sent"] <= timing["accepted"] <= timing["done"]
    stats = simulator.stats()
    assert stats["executed"] == stats["delivered"] == stats["result_gets"] == rows
    assert stats["batches"] == stats["batch_posts"] == batches
    assert stats["polls_after_delivery"] == stats["posts"] == stats["gets"] == 0
    requests = shell.summary()["requests"]
    assert (requests["completed"], requests["open"], requests["unsent"]) == (rows, 0, 0)


def sizes_of(told):
    return [
        sum(stop - start for start, stop in zip(it["rows"][::2], it["rows"][1::2], strict=True))
        for it in told
    ]


def test_batches_are_cut_by_number_and_each_is_on_record_before_and_after_it_was_sent(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    told = go(go.config(service, rows=95, batch={"max_requests": 20}))
    assert told.exit_code == 0, told.errors
    intents = sorted(told.entries("batch"), key=lambda it: it["batch"])  # two are sent at once
    acceptances = told.entries("batch_accepted")
    assert sizes_of(intents) == [20, 20, 20, 20, 15]
    assert sorted(it["request_counts"] for it in service.batches()) == [15, 20, 20, 20, 20]
    assert {it["label"] for it in intents} == {it["label"] for it in service.batches()}
    assert {it["id"] for it in acceptances} == {it["id"] for it in service.batches()}
    for acceptance in acceptances:
        assert told.journal.index(acceptance) > told.journal.index(intents[acceptance["batch"]])


def test_batches_are_cut_by_bytes_and_none_is_larger(serve: Callable[..., Service], go: Runs) -> None:
    service = serve(batches={"max_bytes": 2000})
    told = go(go.config(service, rows=95, batch={"max_requests": 1000, "max_bytes": 2000}))
    assert told.exit_code == 0, told.errors
    intents = sorted(told.entries("batch"), key=lambda it: it["batch"])
    sizes = [it["size_bytes"] for it in intents]
    assert max(sizes) <= 2000
    assert min(sizes[:-1]) > 2000 - 100, "each is as full as it may be"
    assert sum(sizes_of(told.entries("batch"))) == 95
    assert service.stats()["rejected"] == 0
    assert service.stats()["batches"] == len(sizes)


ODD_IDS = [
    "plain-1", "UPPER", "upper", "Zoë", "a b", "a/b?c#d", "-dash", "_under", "x" * 64, "x" * 65, "x" * 200,
    "日本語", "😀", "tab\there", 'quo"te', "back\\slash", "%2F", ".", "..", "0", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_ids_of_every_sort_are_mapped_to_what_the_service_takes_and_back(
    serve: Callable[..., Service], go: Runs, transport: str
) -> None:
    service = serve()
    ids = [*ODD_IDS, wire_id("UPPER"), f"{wire_id('UPPER')}-2", "Zoë!"]
    source = go.lines([{"custom_id": it, "input": f"I am {it}"} for it in ids])
    told = go(
        go.config(service, source=source, target={"transport": transport}, batch={"max_requests": 1000})
    )
    assert told.exit_code == 0, told.errors
    assert told.statuses == {"completed": len(ids)}
    for line in told.results:
        assert line["custom_id"] == ids[line["row"]]
        assert_own_answer(line, f"I am {ids[line['row']]}")
    (batch,) = service.batches()
    at_service = json.loads(service.get(f"/v1/batches/{batch['id']}"))["request_status"]
    assert {it for it in ids if it in at_service} >= {"plain-1", "upper", "x" * 64, "0"}


def test_rows_of_all_shapes_go_in_one_batch_and_none_as_a_background_job(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    bodies = [
        {"input": "a", "temperature": 0.5},
        {"custom_id": "b", "params": {"input": "b", "background": True}},
        {
            "custom_id": "c",
            "method": "POST",
            "url": "/v1/responses",
            "body": {"input": "c", "model": "other"},
        },
    ]
    told = go(go.config(service, source=go.lines(bodies)))
    assert told.exit_code == 0, told.errors
    assert [told.statuses, service.stats()["batches"]] == [{"completed": 3}, 1]
    models = {line["custom_id"]: line["response"]["body"]["model"] for line in told.results}
    assert models == {"row-0": "m", "b": "m", "c": "other"}


def test_results_are_fetched_and_written_while_their_batch_still_runs(stub_batches: Any, go: Runs) -> None:
    """The last is not done before all others are on the disk: to wait for it would take for ever."""

    def look(batch_id):
        status, body = stub.all_done(batch_id)
        if len(go.read("results.jsonl")) < 29:
            body["request_status"]["row-29"]["status"] = "RUNNING"
        return status, body

    with stub_batches() as stub:
        stub.look = look
        told = go(go.config(stub.base_url, rows=30, batch={"max_requests": 30}))
    assert told.exit_code == 0, told.errors
    assert told.statuses == {"completed": 30}
    last = next(line for line in told.results if line["row"] == 29)
    assert told.results[-1] == last
    assert last["timing"]["pending"] > last["timing"]["accepted"]


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_looks_and_fetches_together_are_no_more_than_poll_concurrency(
    serve: Callable[..., Service], go: Runs, transport: str
) -> None:
    service = serve(exchange_s=0.01)
    told = go(
        go.config(
            service,
            rows=60,
            poll={"concurrency": 3},
            batch={"max_requests": 20, "concurrency": 1},
            target={"transport": transport},
        )
    )
    assert told.exit_code == 0, told.errors
    assert 3 <= service.stats()["peak_connections"] <= 3 + 1


def test_batches_are_sent_no_more_at_once_than_batch_concurrency(stub_batches: Any, go: Runs) -> None:
    with stub_batches(create_s=0.02) as stub:
        told = go(go.config(stub.base_url, rows=80, batch={"max_requests": 10, "concurrency": 3}))
    assert told.exit_code == 0, told.errors
    assert stub.peak_posts == 3


@pytest.mark.parametrize("max_open", [1, 2])
def test_no_more_batches_are_open_than_max_open(stub_batches: Any, go: Runs, max_open: int) -> None:
    with stub_batches() as stub:
        told = go(
            go.config(
                stub.base_url, rows=60, batch={"max_requests": 10, "concurrency": 4, "max_open": max_open}
            )
        )
    assert told.exit_code == 0, told.errors
    assert stub.peak_open == max_open
    assert told.statuses == {"completed": 60}
