"""A service that says no: to one request of a batch, to a batch, or to all there will ever be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.batch.conftest import Runs, Service

BAD = {"input": "bad", "temperature": 9}
FORMS = pytest.mark.parametrize("names_item", ["index", "custom_id"])


def lines(count, bad=()):
    return [BAD if i in bad else {"input": f"Row {i}"} for i in range(count)]


def assert_only_these_are_rejected(told, count, bad, message="temperature"):
    assert told.exit_code == 1, told.errors
    assert told.statuses == {"completed": count - len(bad), "rejected": len(bad)}
    assert told.rows("rejected") == set(bad)
    for line in told.ended("rejected"):
        assert message in line["error"]["message"]
        assert line["error"]["status_code"] == 400
        assert line["attempts"] == 1


def test_a_row_too_large_for_any_batch_is_rejected_and_the_others_complete(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    rows = lines(30)
    for i in (0, 7, 29):
        rows[i]["input"] = "x" * 3000
    told = go(go.config(service, source=go.lines(rows), batch={"max_requests": 10, "max_bytes": 2000}))
    assert told.exit_code == 1, told.errors
    assert told.statuses == {"completed": 27, "rejected": 3}
    assert told.rows("rejected") == {0, 7, 29}
    for line in told.ended("rejected"):
        assert line["error"]["type"] == "too_large"
        assert "no batch of 2,000 bytes (batch.max_bytes)" in line["error"]["message"]
        assert (line["attempts"], line["timing"]["sent"]) == (0, None)
    assert service.stats()["rejected"] == 0


def test_rows_that_are_all_too_large_end_without_a_batch(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    told = go(go.config(service, rows=20, batch={"max_requests": 10, "max_bytes": 50}))
    assert told.exit_code == 1, told.errors
    assert told.statuses == {"rejected": 20}
    assert service.stats()["batch_posts"] == 0


@FORMS
@pytest.mark.parametrize("bad", [{0}, {13}, {39}])
def test_a_400_that_names_a_request_rejects_it_and_the_others_complete(
    serve: Callable[..., Service], go: Runs, names_item: Any, bad: Any
) -> None:
    service = serve(batches={"names_item": names_item})
    told = go(go.config(service, source=go.lines(lines(40, bad))))
    assert_only_these_are_rejected(told, 40, bad)
    assert "the service refuses a batch for one of its requests" in told.errors
    stats = service.stats()
    assert (stats["rejected"], stats["executed"]) == (1, 39)
    (line,) = told.ended("rejected")
    assert line["response"]["body"]["error"]["message"] == line["error"]["message"], (
        "the whole answer is kept"
    )


@FORMS
def test_a_request_with_an_odd_id_is_told_by_its_own(
    serve: Callable[..., Service], go: Runs, names_item: Any
) -> None:
    service = serve(batches={"names_item": names_item})
    rows = [{**row, "custom_id": f"Zoë {i}"} for i, row in enumerate(lines(20, {4}))]
    told = go(go.config(service, source=go.lines(rows)))
    assert_only_these_are_rejected(told, 20, {4})
    assert {line["custom_id"] for line in told.ended("rejected")} == {"Zoë 4"}
    assert "'Zoë 4'" in told.errors


@FORMS
def test_several_in_one_batch_are_found_one_after_the_other(
    serve: Callable[..., Service], go: Runs, names_item: Any
) -> None:
    service = serve(batches={"names_item": names_item})
    bad = {10, 11, 15, 19, 33}
    told = go(go.config(service, source=go.lines(lines(40, bad))))
    assert_only_these_are_rejected(told, 40, bad)
    assert service.stats()["executed"] == 35


def test_many_of_them_among_good_ones_are_all_found_and_none_of_the_good_is_lost(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    bad = set(range(3, 200, 5))
    told = go(go.config(service, source=go.lines(lines(200, bad)), batch={"max_requests": 100}))
    assert_only_these_are_rejected(told, 200, bad)
    stats = service.stats()
    assert stats["rejected"] == len(bad)
    assert stats["batch_posts"] <= 5 * len(bad)


@FORMS
def test_where_all_are_bad_it_stops_soon_and_says_why(
    serve: Callable[..., Service], go: Runs, names_item: Any
) -> None:
    service = serve(batches={"names_item": names_item})
    told = go(go.config(service, source=go.lines(lines(500, range(500))), batch={"max_requests": 100}))
    assert told.exit_code == 3, told.errors
    assert "were all refused" in told.errors
    assert "temperature" in told.errors
    assert "start afresh with --new" in told.errors
    assert service.stats()["batch_posts"] <= 10
    assert len(told.results) < 10


def test_a_first_batch_refused_for_no_request_stops_the_run_and_uses_up_no_row(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(batches={"names_item": "none"})
    told = go(go.config(service, source=go.lines(lines(40, {5}))))
    assert told.exit_code == 3, told.errors
    assert "the first batch was refused: One of the requests is invalid" in told.errors
    assert not [line for line in told.results if line["status"] != "completed"]
    assert service.stats()["rejected"] == 1
    told = go(go.config(service, source=go.lines(lines(40))), "--new")
    assert (told.exit_code, told.statuses) == (0, {"completed": 40}), told.errors


def test_where_nothing_was_accepted_a_mended_config_goes_on_by_itself(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(batches={"names_item": "none"})
    told = go(go.config(service, rows=20, request={"temperature": 9}, batch={"max_requests": 20}))
    assert (told.exit_code, told.results) == (3, []), told.errors
    told = go(go.config(service, rows=20, request={"temperature": 1}))
    assert "nothing was accepted so far" in told.errors
    assert (told.exit_code, told.statuses) == (0, {"completed": 20}), told.errors


def test_a_later_batch_refused_for_no_request_is_rejected_whole_and_the_others_complete(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(batches={"names_item": "none"})
    config = go.config(service, source=go.lines(lines(50, {35})), batch={"concurrency": 1})
    told = go(config)
    assert told.exit_code == 1, told.errors
    assert told.statuses == {"completed": 40, "rejected": 10}
    assert told.rows("rejected") == set(range(30, 40))
    assert all(
        "One of the requests is invalid" in line["error"]["message"] for line in told.ended("rejected")
    )
    assert "--retry rejected" in told.errors
    told = go(config, "--retry", "rejected")
    assert told.rows("rejected") == set(range(30, 40))


def test_in_a_later_session_too_a_refusal_is_that_of_one_batch(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(batches={"names_item": "none"})
    config = go.config(service, source=go.lines(lines(50, {35})), batch={"concurrency": 1})
    assert go(config, "--limit", "20").exit_code == 0
    told = go(config)
    assert told.exit_code == 1, told.errors
    assert told.statuses == {"completed": 40, "rejected": 10}


def refusing(stub, status, error):
    stub.create = lambda _: (status, {"error": error})


def test_a_refused_label_is_told(stub_batches: Any, go: Runs) -> None:
    error = {
        "message": "label: String should match pattern",
        "type": "invalid_request_error",
        "param": "label",
    }
    with stub_batches() as stub:
        refusing(stub, 400, error)
        told = go(go.config(stub.base_url, batch={"label": "nightly"}))
    assert told.exit_code == 3, told.errors
    assert "the first batch was refused: label: String should match pattern" in told.errors
    assert len(stub.posts) == 1
    assert not told.results


def test_batches_too_large_for_the_service_become_smaller_until_they_fit(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(batches={"max_bytes": 1500})
    told = go(go.config(service, rows=60, batch={"max_requests": 30}))
    assert (told.exit_code, told.statuses) == (0, {"completed": 60}), told.errors
    assert "a lower batch.max_bytes saves the upload" in told.errors
    assert "Traceback" not in told.errors
    refused = told.entries("batch_refused")
    assert {event["cause"] for event in refused} == {"413"}
    assert len(refused) < 10, "what was too large once is not tried again"


def test_a_row_too_large_for_the_service_alone_is_rejected(serve: Callable[..., Service], go: Runs) -> None:
    service = serve(batches={"max_bytes": 1500})
    rows = [{"input": "a"}, {"input": "b" * 2000}, {"input": "c"}]
    told = go(go.config(service, source=go.lines(rows)))
    assert told.exit_code == 1, told.errors
    assert told.statuses == {"completed": 2, "rejected": 1}, told.errors


def test_a_service_without_a_batch_api_is_told_of(serve: Callable[..., Service], go: Runs) -> None:
    service = serve(batches={"offered": False})
    told = go(go.config(service))
    assert told.exit_code == 3, told.errors
    assert "does the service have a Batch API?" in told.errors
    assert "target.mode: background" in told.errors
    assert not told.results
    assert service.stats()["batch_posts"] == 1


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_a_wrong_key_is_told_before_any_body_is_sent(
    serve: Callable[..., Service], go: Runs, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setenv("RIGHT_KEY", "sk-right")
    service = serve(api_key_env="RIGHT_KEY")
    told = go(go.config(service, target={"transport": transport}))
    assert told.exit_code == 3, told.errors
    assert "refuses the API key" in told.errors
    stats = service.stats()
    assert (stats["batch_posts"], stats["unauthorised"]) == (0, 1)
    assert not told.results
    assert not told.entries("batch")


def test_where_nobody_listens_it_is_told_soon_and_nothing_is_used_up(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    service.stop()
    told = go(go.config(service, limits={"max_outage_s": 0.3}))
    assert told.exit_code == 3, told.errors
    assert "no Responses API answers there" in told.errors
    assert not told.entries("batch")
    assert not told.results


def test_a_key_that_is_refused_later_ends_the_run_and_the_same_command_goes_on(
    stub_batches: Any, go: Runs
) -> None:
    with stub_batches() as stub:
        accept = stub.create
        stub.create = lambda body: (
            accept(body) if len(stub.posts) < 3 else (401, {"error": {"message": "no"}})
        )
        config = go.config(stub.base_url, rows=60, batch={"concurrency": 1})
        told = go(config)
        assert told.exit_code == 3, told.errors
        assert "refuses the API key" in told.errors
        stub.create = accept
        told = go(config)
    assert (told.exit_code, told.statuses) == (0, {"completed": 60}), told.errors
    assert sum(map(len, stub.batches.values())) == 60


ERROR = {"message": "cannot be digested", "type": "server_error", "param": None, "code": None}


def test_a_batch_that_always_fails_while_the_service_answers_otherwise_is_no_outage(
    stub_batches: Any, go: Runs
) -> None:
    with stub_batches() as stub:
        stub.list = lambda: (200, [])
        accept = stub.accept
        stub.create = lambda body: accept(body) if body["label"].endswith("-0") else (503, {"error": ERROR})
        retry = {"max_attempts": 3, "base_s": 0.01, "cap_s": 0.01}
        limits = {"max_outage_s": 0.5}
        config = go.config(
            stub.base_url, rows=20, batch={"max_requests": 10}, submit={"retry": retry}, limits=limits
        )
        told = go(config)
    assert (told.exit_code, told.statuses) == (1, {"completed": 10, "rejected": 10}), told.errors
    assert {line["error"]["message"] for line in told.ended("rejected")} == {"cannot be digested"}
    assert len(stub.posts) >= 1 + 3
