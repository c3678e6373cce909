"""Looking at batches and fetching what is done: ends of every sort, and a service that answers badly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.batch.conftest import Runs, Service
from tests.batch.stub import NOT_FOUND

FOR_EVER = {"type": "constant", "mean_s": 3600}


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_requests_that_end_otherwise_keep_the_services_error_and_what_they_cost(
    serve: Callable[..., Service], go: Runs, transport: str
) -> None:
    outcomes = {"failed": 0.2, "incomplete": 0.2, "cancelled": 0.2, "expired": 0.2}
    service = serve(outcomes=outcomes)
    told = go(go.config(service, rows=100, target={"transport": transport}))
    assert told.exit_code == 1, told.errors
    assert told.statuses == Counter(job["status"] for job in service.jobs())
    assert set(told.statuses) == {"completed", *outcomes}
    assert told.ended("failed")[0]["error"]["message"] == "The model failed to generate a response."
    assert told.ended("expired")[0]["error"]["code"] == "expired"
    assert told.ended("incomplete")[0]["error"]["message"] == "stopped by max_output_tokens"
    assert told.ended("cancelled")[0]["error"]["message"]
    usages = [line["response"]["body"]["usage"]["output_tokens"] for line in told.results]
    assert sum(usages) == told.summary["tokens"]["output"] > 0
    assert all(line["response"]["body"]["usage"]["output_tokens"] for line in told.ended("incomplete"))


CAUSES = {
    "500": "500", "lost": "reset", "reset": "reset", "cut": "cut", "html": "502", "404": "gone",
    "empty": "empty", "not_json": "not_json", "not_object": "not_object", "502": "502",
}  # fmt: skip
MENDED_BY_THE_LIBRARY = ("lost", "reset")
"""The SDK's client repeats a GET that lost a kept connection, uncounted."""


def assert_retries(told, service, table, kind, transport):
    """All are completed, and each fault is in the summary under its cause, as often as it happened."""
    assert told.exit_code == 0, told.errors
    assert told.statuses == {"completed": len(told.results)}
    injected = service.stats()["faults"][table][kind]
    assert injected > 0
    counted = told.summary["retries"]["poll"].get(CAUSES[kind], 0)
    if transport == "openai" and kind in MENDED_BY_THE_LIBRARY:
        assert counted <= injected
    else:
        assert counted == injected
    assert set(told.summary["retries"]["poll"]) <= {CAUSES[kind]}
    stats = service.stats()
    assert stats["executed"] == stats["delivered"] == len(told.results)


BOTH = [*((kind, "aiohttp") for kind in CAUSES), *((kind, "openai") for kind in ("500", "lost", "cut"))]


@pytest.mark.parametrize(("kind", "transport"), BOTH)
def test_a_result_that_does_not_come_is_fetched_again(
    serve: Callable[..., Service], go: Runs, kind: Any, transport: Any
) -> None:
    service = serve(faults={"result": {kind: 0.3}})
    told = go(go.config(service, rows=40, target={"transport": transport}))
    assert_retries(told, service, "result", kind, transport)


@pytest.mark.parametrize("kind", CAUSES)
def test_a_look_that_does_not_come_is_taken_again(serve: Callable[..., Service], go: Runs, kind: Any) -> None:
    service = serve(faults={"status": {kind: 0.4}})
    # The first question is one for the list, and 404 there is an answer.
    told = go(go.config(service, rows=60, batch={"max_requests": 3}))
    if kind == "404":
        assert told.statuses == {"completed": 60}
        return
    assert told.exit_code == 0, told.errors
    assert told.statuses == {"completed": 60}
    retries = told.summary["retries"]
    counted = retries["poll"].get(CAUSES[kind], 0) + retries["submit"].get(CAUSES[kind], 0)
    assert counted == service.stats()["faults"]["status"][kind] > 0


@pytest.mark.parametrize("table", ["result", "status"])
def test_a_service_that_wants_fewer_looks_gets_fewer(
    serve: Callable[..., Service], go: Runs, table: str
) -> None:
    service = serve(faults={table: {"429": 0.1}})
    told = go(go.config(service, rows=20, batch={"max_requests": 5}))
    assert (told.exit_code, told.statuses) == (0, {"completed": 20}), told.errors
    retries = told.summary["retries"]
    counted = retries["poll"].get("429", 0) + retries["submit"].get("429", 0)
    assert counted == service.stats()["faults"].get(table, {}).get("429", 0)


def test_a_word_never_seen_is_not_done_yet(serve: Callable[..., Service], go: Runs) -> None:
    service = serve(faults={"status": {"odd_status": 0.5}, "result": {"odd_status": 0.3}})
    told = go(go.config(service, rows=40))
    assert (told.exit_code, told.statuses) == (0, {"completed": 40}), told.errors
    assert told.summary["retries"] == {"submit": {}, "poll": {}}


def test_a_batch_that_is_not_done_in_time_is_given_up_row_by_row(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(
        latency={"type": "bimodal", "fast_s": 0.01, "slow_s": 3600, "slow_share": 0.3, "sigma": 0.01}
    )
    config = go.config(service, rows=40, poll={"deadline_s": 0.5})
    told = go(config)
    assert told.exit_code == 1, told.errors
    assert set(told.statuses) == {"completed", "expired"}
    assert service.stats()["delivered"] == told.statuses["completed"]
    for line in told.ended("expired"):
        assert line["error"]["type"] == "deadline"
        assert "poll.deadline_s" in line["error"]["message"]


def test_a_batch_that_the_service_forgets_expires(stub_batches: Any, go: Runs) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: (404, NOT_FOUND) if batch_id == "batch_1" else stub.all_done(batch_id)
        told = go(go.config(stub.base_url, rows=30, limits={"max_outage_s": 0.6}))
    assert told.exit_code == 1, told.errors
    assert told.statuses == {"completed": 20, "expired": 10}
    assert {line["error"]["status_code"] for line in told.ended("expired")} == {404}


def test_a_result_that_the_service_forgets_expires_alone(stub_batches: Any, go: Runs) -> None:
    with stub_batches() as stub:
        answer = stub.result
        stub.result = lambda batch_id, name: (404, NOT_FOUND) if name == "row-7" else answer(batch_id, name)
        told = go(go.config(stub.base_url, rows=30, limits={"max_outage_s": 0.6}))
    assert told.statuses == {"completed": 29, "expired": 1}, told.errors
    assert told.rows("expired") == {7}


@pytest.mark.parametrize("choice", ["hold", "resend"])
@pytest.mark.parametrize("what", ["the batch", "some results"])
def test_what_the_service_forgot_of_an_earlier_session(
    stub_batches: Any, go: Runs, choice: str, what: str
) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: stub.all_done(batch_id, "RUNNING")
        config = go.config(
            stub.base_url,
            rows=30,
            submit={"on_uncertain": choice},
            limits={"max_outage_s": 0.6, "max_s": 0.3, "drain_s": 0.1},
        )
        assert go(config).exit_code == 3
        assert len(stub.posts) == 3
        old, lost = set(stub.batches), {"row-1", "row-12"} if what == "some results" else set()
        if what == "the batch":
            for batch_id in old:
                del stub.batches[batch_id]
        answer = stub.answer
        stub.look = stub.all_done
        stub.result = lambda batch_id, name: (
            (404, NOT_FOUND) if batch_id in old and name in lost else answer(batch_id, name)
        )
        told = go(config, "--set", "limits.max_s=null")
    count = len(lost) or 30
    if choice == "resend":
        assert (told.exit_code, told.statuses) == (0, {"completed": 30}), told.errors
        again = [it["custom_id"] for body in stub.posts[3:] for it in body["requests"]]
        assert len(set(again)) == len(again) == count
    else:
        assert told.exit_code == 1
        assert told.statuses == ({"uncertain": 30} if count == 30 else {"completed": 28, "uncertain": 2})
        assert len(stub.posts) == 3
        assert all(
            "accepted in an earlier session" in line["error"]["message"] for line in told.ended("uncertain")
        )


@pytest.mark.parametrize(
    ("word", "status"), [("FAILED", "failed"), ("CANCELLED", "cancelled"), ("EXPIRED", "expired")]
)
def test_a_request_that_failed_and_has_nothing_to_show_ends_as_the_batch_says(
    stub_batches: Any, go: Runs, word: str, status: str
) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: stub.all_done(batch_id, word)
        stub.result = lambda *_: (404, NOT_FOUND)
        told = go(go.config(stub.base_url, rows=20))
    assert told.exit_code == 1, told.errors
    assert told.statuses == {status: 20}
    assert len([path for path in stub.gets if path.count("/") == 4]) == 5 * 20, "a replica may be behind"


def test_a_map_that_tells_a_request_twice_does_no_harm(stub_batches: Any, go: Runs) -> None:
    def look(batch_id):
        status, body = stub.all_done(batch_id)
        compact = json.dumps(body, separators=(",", ":"))
        return status, compact.replace('"}}}', '"},"row-3":{"status":"COMPLETED"}}}').encode()

    with stub_batches() as stub:
        stub.look = look
        told = go(go.config(stub.base_url, rows=10))
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors


@pytest.mark.parametrize("is_there", [True, False])
def test_a_request_that_its_batch_does_not_tell_of_is_asked_for_once_more_at_its_deadline(
    stub_batches: Any, go: Runs, is_there: bool
) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: (200, {"id": batch_id, "request_status": {"x": {"status": "COMPLETED"}}})
        if not is_there:
            stub.result = lambda *_: (200, {"id": "resp_1", "status": "in_progress"})
        told = go(go.config(stub.base_url, rows=10, poll={"deadline_s": 0.3}))
    assert told.statuses == {"completed" if is_there else "expired": 10}, told.errors
    if not is_there:
        assert {line["error"]["type"] for line in told.results} == {"deadline"}


@pytest.mark.parametrize("status_map", [{}, {"request_status": None}])
def test_a_batch_without_a_map_has_nothing_done_yet(
    stub_batches: Any, go: Runs, status_map: dict[str, Any]
) -> None:
    with stub_batches() as stub:
        looks = []

        def look(batch_id):
            looks.append(batch_id)
            return stub.all_done(batch_id) if len(looks) > 3 else (200, {"id": batch_id, **status_map})

        stub.look = look
        told = go(go.config(stub.base_url, rows=10, limits={"max_outage_s": 0.1}))
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors
    assert not told.summary["retries"]["poll"]


def test_a_result_that_takes_its_time_to_be_found_is_not_given_up(stub_batches: Any, go: Runs) -> None:
    with stub_batches() as stub:
        asked = Counter()

        def result(batch_id, name):
            asked[name] += 1
            return stub.answer(batch_id, name) if asked[name] > 9 else (404, NOT_FOUND)

        stub.result = result
        told = go(go.config(stub.base_url, rows=10, limits={"max_outage_s": 1}))
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors


def test_looks_do_not_keep_results_from_being_fetched(stub_batches: Any, go: Runs) -> None:
    def look(batch_id):
        status, body = stub.all_done(batch_id)
        slow = next(iter(body["request_status"]))
        body["request_status"][slow] = {"status": "RUNNING"}
        return status, body

    with stub_batches() as stub:
        stub.look = look
        poll = {"strategy": "fixed", "interval_s": 0.05, "max_rate": 40, "concurrency": 4}
        limits = {"max_s": 2, "drain_s": 0}
        config = go.config(stub.base_url, rows=24, batch={"max_requests": 6}, poll=poll, limits=limits)
        told = go(config)
    assert told.statuses == {"completed": 20}, told.errors
