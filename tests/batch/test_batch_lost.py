"""Acknowledgements that are lost: each batch is at the service once, or its rows are told to be in doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.batch.conftest import Runs, Service

NO_KEYS = {"idempotency_header": None}
DAY_S = 24 * 3600.0
SOON = {"max_outage_s": 0.6}
"""Then a batch that was not found is believed not to be there after a tenth of a second."""


def assert_each_once(told, service, rows, batches):
    assert (told.exit_code, told.statuses) == (0, {"completed": rows}), told.errors
    stats = service.stats()
    assert (stats["batches"], stats["executed"]) == (batches, rows)


KINDS = ["lost", "cut", "empty", "not_json", "no_id", "not_object", "not_utf8"]


@pytest.mark.parametrize(("kind", "transport"), [*((kind, "aiohttp") for kind in KINDS), ("lost", "openai")])
def test_a_batch_whose_acknowledgement_is_lost_is_found_by_its_label_and_not_sent_again(
    serve: Callable[..., Service], go: Runs, kind: Any, transport: Any
) -> None:
    service = serve(faults={"batch": {kind: 1.0}}, idempotency=False)
    told = go(go.config(service, rows=40, target={**NO_KEYS, "transport": transport}))
    assert_each_once(told, service, 40, 4)
    assert service.stats()["batch_posts"] == 4
    assert sum(told.summary["retries"]["submit"].values()) == 4
    assert {line["attempts"] for line in told.results} == {1}


@pytest.mark.parametrize("habit", [{"listing": False}, {"labels": False}])
def test_where_it_cannot_be_found_it_is_sent_again_with_its_key_and_exists_once(
    serve: Callable[..., Service], go: Runs, habit: dict[str, Any]
) -> None:
    service = serve(faults={"batch": {"lost": 0.5}}, batches=habit)
    told = go(go.config(service, rows=60, batch={"max_requests": 3}))
    assert_each_once(told, service, 60, 20)
    stats = service.stats()
    assert stats["batch_replays"] == stats["batch_posts"] - 20 == stats["faults"]["batch"]["lost"] > 0
    assert told.summary["retries"]["submit"] == {"reset": stats["faults"]["batch"]["lost"]}


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
@pytest.mark.parametrize("kind", ["reset", "500", "502", "html"])
def test_one_that_never_came_is_sent_again_once_it_is_known_not_to_be_there(
    serve: Callable[..., Service], go: Runs, kind: str, header: str | None
) -> None:
    service = serve(faults={"batch": {kind: 0.5}}, idempotency=bool(header))
    told = go(go.config(service, rows=30, target={"idempotency_header": header}, limits=SOON))
    assert_each_once(told, service, 30, 3)


def test_a_service_that_wants_fewer_batches_gets_them_later(serve: Callable[..., Service], go: Runs) -> None:
    service = serve(rate_limits={"post": {"per_s": 4, "burst": 2}})
    told = go(go.config(service, rows=50, submit={"retry": {"max_attempts": 3}}))
    assert_each_once(told, service, 50, 5)


@pytest.mark.parametrize("choice", ["hold", "resend"])
@pytest.mark.parametrize("habit", [{"listing": False}, {"labels": False}])
def test_where_nothing_tells_whether_it_is_there(
    serve: Callable[..., Service], go: Runs, habit: dict[str, Any], choice: str
) -> None:
    service = serve(faults={"batch": {"lost": 0.5}}, batches=habit, idempotency=False)
    config = go.config(
        service,
        rows=80,
        target=NO_KEYS,
        submit={"on_uncertain": choice},
        batch={"max_requests": 10},
        limits=SOON,
    )
    told = go(config)
    stats = service.stats()
    lost = stats["faults"].get("batch", {}).get("lost", 0)
    if choice == "hold":
        assert told.statuses.get("uncertain", 0) == 10 * lost
        assert told.statuses.get("completed", 0) == 80 - 10 * lost
        assert stats["batches"] == 8, "none was sent twice"
        assert all(
            "cannot be found by its label" in line["error"]["message"] for line in told.ended("uncertain")
        )
    else:
        assert (told.exit_code, told.statuses) == (0, {"completed": 80}), told.errors
        assert stats["batches"] == 8 + lost, "the price of it"


def lose_acknowledgements(go, shift_s=0.0, keep_results=lambda line: False):
    """As a kill in the middle of all uploads: of each batch the journal has what was written before."""
    with go.rewriting("journal.jsonl") as journal:
        journal[:] = [entry for entry in journal if entry["event"] != "batch_accepted"]
        for entry in journal:
            entry["at"] += shift_s
            if "due" in entry:
                entry["due"] += shift_s
    with go.rewriting("results.jsonl") as results:
        results[:] = [line for line in results if keep_results(line)]


@pytest.mark.parametrize("shift_s", [0.0, -DAY_S])
@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_later_session_finds_what_an_earlier_one_had_sent(
    serve: Callable[..., Service], go: Runs, shift_s: Any, header: str | None
) -> None:
    service = serve()
    config = go.config(service, rows=40, target={"idempotency_header": header})
    assert go(config).exit_code == 0
    lose_acknowledgements(go, shift_s)
    told = go(config)
    assert_each_once(told, service, 40, 4)
    assert service.stats()["batch_posts"] == 4
    assert "40 to be confirmed" in told.errors


@pytest.mark.parametrize(
    ("shift_s", "status"),
    [(0.0, "completed"), (-3600.0, "completed"), (-DAY_S, "uncertain"), (DAY_S, "uncertain")],
    ids=["just now", "an hour ago", "older than its key", "by a clock that was set back"],
)
def test_where_there_is_no_list_a_later_session_trusts_a_key_while_it_is_known_to_live(
    serve: Callable[..., Service], go: Runs, shift_s: Any, status: str
) -> None:
    service = serve(batches={"listing": False})
    config = go.config(service, rows=40, limits=SOON)
    assert go(config).exit_code == 0
    lose_acknowledgements(go, shift_s)
    told = go(config)
    assert told.statuses == {status: 40}, told.errors
    assert service.stats()["batches"] == 4
    assert service.stats()["batch_posts"] == (8 if status == "completed" else 4)


def test_a_later_session_sends_again_what_never_came(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    config = go.config(service, rows=40, target=NO_KEYS, limits=SOON)
    assert go(config).exit_code == 0
    lose_acknowledgements(go)
    service.stop()
    other = serve(port=service.port)
    told = go(config)
    assert_each_once(told, other, 40, 4)
    labels = [it["label"] for it in other.batches()]
    assert sorted(labels) == sorted({it["label"] for it in told.entries("batch")}), "under their old labels"


@pytest.mark.parametrize("count", [1, 7, 35])
def test_results_that_were_written_though_the_acknowledgement_was_not_stay_as_they_are(
    serve: Callable[..., Service], go: Runs, count: int
) -> None:
    """As when the disk was full for the journal, and not for the results."""
    service = serve()
    config = go.config(service, rows=40)
    assert go(config).exit_code == 0
    lose_acknowledgements(go, keep_results=lambda line: line["row"] % 40 < count)
    told = go(config)
    assert_each_once(told, service, 40, 4)
    assert told.summary["requests"]["completed"] == 40
    assert told.summary["requests"]["open"] == 0


def test_rows_beyond_a_limit_that_are_in_doubt_are_found_too(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    config = go.config(service, rows=60)
    assert go(config, "--limit", "40").exit_code == 0
    lose_acknowledgements(go)
    told = go(config, "--limit", "15")
    assert_each_once(told, service, 40, 4)
    assert told.summary["requests"]["open"] == 0


def test_a_key_that_was_used_with_other_bytes_is_no_licence_to_send_again(
    stub_batches: Any, go: Runs
) -> None:
    error = {"message": "Keys must not be reused.", "type": "idempotency_error"}
    with stub_batches() as stub:
        stub.create = lambda _: (400, {"error": error})
        told = go(go.config(stub.base_url, rows=20))
    assert (told.exit_code, told.statuses) == (1, {"uncertain": 20}), told.errors
    assert {line["error"]["type"] for line in told.results} == {"idempotency_error"}
    assert len(stub.posts) == 2


def test_other_bytes_under_an_old_key_are_not_sent(serve: Callable[..., Service], go: Runs) -> None:
    service = serve(batches={"listing": False})
    config = go.config(service, rows=20)
    assert go(config).exit_code == 0
    lose_acknowledgements(go)
    with go.rewriting("journal.jsonl") as journal:
        for entry in journal:
            if entry["event"] == "batch":
                entry["key"] = "0" * 64
    told = go(config)
    assert told.exit_code == 3, told.errors
    assert "makes other bytes now" in told.errors
    assert service.stats()["batch_posts"] == 2
    assert not told.results
