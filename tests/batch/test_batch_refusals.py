"""A service that refuses: what the simulator's own errors lead to, and what the user reads."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from tests.batch.in_process import Runs, Service


def lines(count: int, bad: Collection[int] = ()) -> list[dict[str, object]]:
    return [{"input": "bad", "temperature": 9} if i in bad else {"input": f"Row {i}"} for i in range(count)]


@pytest.mark.parametrize("names_item", ["index", "custom_id"])
def test_requests_that_the_service_names_are_rejected_and_the_others_complete(
    serve: Callable[..., Service], go: Runs, names_item: str
) -> None:
    service = serve(batches={"names_item": names_item})
    bad = {10, 11, 15, 19, 33}
    rows = [{**row, "custom_id": f"Zoë {i}"} for i, row in enumerate(lines(40, bad))]
    run = go(go.config(service.base_url, source=go.lines(rows)))
    assert run.exit_code == 1, run.errors
    assert run.statuses == {"completed": 35, "rejected": 5}
    assert run.rows("rejected") == bad
    for line in run.ended("rejected"):
        assert "temperature" in line["error"]["message"]
        assert line["response"]["body"]["error"]["message"] == line["error"]["message"]
        assert line["error"]["status_code"] == 400
        assert line["attempts"] == 1
    assert "the service refuses a batch for one of its requests, 'Zoë 1" in run.errors
    assert service.stats()["executed"] == 35


def test_a_first_batch_refused_as_a_whole_stops_the_run_and_a_new_run_completes(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(batches={"names_item": "none"})
    run = go(go.config(service.base_url, source=go.lines(lines(40, {5}))))
    assert (run.exit_code, run.results) == (3, []), run.errors
    assert "the first batch was refused: One of the requests is invalid" in run.errors
    assert "start over with --new" in run.errors
    assert service.stats()["rejected"] == 1
    run = go(go.config(service.base_url, source=go.lines(lines(40))), "--new")
    assert (run.exit_code, run.statuses) == (0, {"completed": 40}), run.errors


def test_a_later_batch_refused_as_a_whole_may_be_retried(serve: Callable[..., Service], go: Runs) -> None:
    service = serve(batches={"names_item": "none"})
    config = go.config(service.base_url, source=go.lines(lines(50, {35})), batch={"concurrency": 1})
    for arguments in ((), ("--retry", "rejected")):
        run = go(config, *arguments)
        assert (run.exit_code, run.statuses) == (1, {"completed": 40, "rejected": 10}), run.errors
        assert run.rows("rejected") == set(range(30, 40))
        assert "--retry rejected" in run.errors


def test_a_run_of_which_nothing_was_accepted_continues_with_another_config(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve(batches={"names_item": "none"})
    batch = {"max_requests": 20}
    run = go(go.config(service.base_url, rows=20, request={"temperature": 9}, batch=batch))
    assert (run.exit_code, run.results) == (3, []), run.errors
    run = go(go.config(service.base_url, rows=20, request={"temperature": 1}))
    assert "nothing was accepted so far" in run.errors
    assert (run.exit_code, run.statuses) == (0, {"completed": 20}), run.errors


def test_batches_too_large_for_the_service_become_smaller_until_they_fit(
    serve: Callable[..., Service], go: Runs
) -> None:
    """The service refuses such a body while it is still being sent."""
    service = serve(batches={"max_bytes": 1500})
    run = go(go.config(service.base_url, rows=60, batch={"max_requests": 30}))
    assert (run.exit_code, run.statuses) == (0, {"completed": 60}), run.errors
    assert "a lower batch.max_bytes saves the upload" in run.errors
    refused = run.entries("batch_refused")
    assert {event["cause"] for event in refused} == {"413"}
    assert len(refused) < 10


def test_a_refused_key_is_reported_before_any_body_is_sent(
    serve: Callable[..., Service], go: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIGHT_KEY", "sk-right")
    service = serve(api_key_env="RIGHT_KEY")
    run = go(go.config(service.base_url))
    assert (run.exit_code, run.results) == (3, []), run.errors
    assert "refuses the API key" in run.errors
    stats = service.stats()
    assert (stats["batch_posts"], stats["unauthorised"]) == (0, 1)


def test_an_address_where_nobody_listens_is_reported_soon(serve: Callable[..., Service], go: Runs) -> None:
    service = serve()
    service.stop()
    run = go(go.config(service.base_url, limits={"max_outage_s": 0.3}))
    assert (run.exit_code, run.results) == (3, []), run.errors
    assert "no Responses API answers there" in run.errors
