"""What a service may do for a while without a row being given up for it, or paid for twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.batch.conftest import Runs, Service
from tests.batch.stub import NOT_FOUND

ERROR = {"message": "not now", "type": "server_error", "param": None, "code": None}
SOON = {"base_s": 0.01, "cap_s": 0.02, "max_attempts": 3}


def test_a_service_whose_posts_fail_from_the_start_ends_the_run_and_no_row(
    stub_batches: Any, go: Runs
) -> None:
    with stub_batches() as stub:
        stub.list = lambda: (200, [])
        stub.create = lambda _: (503, {"error": ERROR})
        config = go.config(stub.base_url, rows=20, submit={"retry": SOON}, limits={"max_outage_s": 0.4})
        told = go(config)
        assert (told.exit_code, told.statuses) == (3, {}), told.errors
        assert "not now" in told.errors
        assert len(stub.posts) > SOON["max_attempts"], "an outage may last longer than the tries of a row"
        stub.create = stub.accept
        told = go(config)
    assert (told.exit_code, told.statuses) == (0, {"completed": 20}), told.errors


def test_refusals_as_too_many_use_up_no_tries_of_a_batch(stub_batches: Any, go: Runs) -> None:
    """A service may take so many open batches and no more: each is taken once another is done."""
    refused = []

    def create(body):
        if stub.accepted == 1 and len(refused) < 6:
            refused.append(body["label"])
            return 429, {"error": ERROR}
        return stub.accept(body)

    with stub_batches() as stub:
        stub.list = lambda: (200, [])
        stub.create = create
        limits = {"max_outage_s": 0.2}
        config = go.config(
            stub.base_url,
            rows=20,
            batch={"max_requests": 10, "concurrency": 1},
            submit={"retry": {**SOON, "max_attempts": 2}},
            limits=limits,
        )
        told = go(config)
        while told.exit_code == 3:  # nothing else came back meanwhile
            assert "nothing but failures" in told.errors
            told = go(config)
    assert (told.exit_code, told.statuses) == (0, {"completed": 20}), told.errors
    assert told.summary["retries"]["submit"]["429"] == 6


def test_a_key_is_enough_where_the_list_fails_for_ever(stub_batches: Any, go: Runs) -> None:
    with stub_batches() as stub:
        listed = []

        def list_batches():
            listed.append(1)
            return (200, []) if len(listed) == 1 else (500, {"error": ERROR})

        def create(body):
            return (504, {"error": ERROR}) if len(stub.posts) == 1 else stub.accept(body)

        stub.list, stub.create = list_batches, create
        told = go(
            go.config(stub.base_url, rows=10, submit={"retry": SOON}, limits={"max_outage_s": 1}),
        )
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors
    assert [post["label"] for post in stub.posts] == [stub.posts[0]["label"]] * 2


def test_without_a_key_a_list_that_fails_says_nothing_of_what_is_not_in_it(
    stub_batches: Any, go: Runs
) -> None:
    with stub_batches() as stub:
        listed = []

        def list_batches():
            listed.append(1)
            return (200, []) if len(listed) == 1 else (500, {"error": ERROR})

        stub.list, stub.create = list_batches, lambda _: (504, {"error": ERROR})
        config = go.config(
            stub.base_url,
            rows=10,
            target={"idempotency_header": None},
            submit={"retry": SOON},
            limits={"max_outage_s": 0.5},
        )
        told = go(config)
        assert (told.exit_code, told.statuses) == (3, {}), told.errors
        assert len(stub.posts) == 1
    assert "10 requests were sent without an acknowledgement" in told.errors


def test_a_row_larger_than_the_batches_that_a_refusal_left_is_still_sent_alone(
    stub_batches: Any, go: Runs
) -> None:
    """The service says of a batch that it is too large, and not how large one may be."""
    rows = [{"custom_id": f"r{i}", "input": "x" * (700 if i == 5 else 100)} for i in range(10)]

    def create(body):
        if len(str(body)) > 1_600:
            return 413, {"error": {**ERROR, "message": "too large"}}
        return stub.accept(body)

    with stub_batches() as stub:
        stub.create = create
        told = go(go.config(stub.base_url, source=go.lines(rows), batch={"max_requests": 100}))
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors


def test_the_rate_of_acceptance_does_not_count_the_time_between_two_sessions(
    serve: Callable[..., Service], go: Runs
) -> None:
    service = serve()
    config = go.config(service, rows=20, batch={"max_requests": 20})
    assert go(config).exit_code == 0
    a_day_ago = 86_400.0
    with go.rewriting("journal.jsonl") as entries:
        entries[:] = [it for it in entries if it["event"] != "batch_accepted"]
        for entry in entries:
            entry["at"] -= a_day_ago
    (go.dir / "results.jsonl").write_bytes(b"")
    for left in ("summary.json", "metrics.jsonl"):
        (go.dir / left).unlink()
    told = go(config)
    assert (told.exit_code, told.statuses) == (0, {"completed": 20}), told.errors
    assert told.summary["throughput"]["accepted_per_s"] > 1


def test_an_unknown_batch_is_asked_about_for_as_long_as_an_outage_may_last(
    stub_batches: Any, go: Runs
) -> None:
    with stub_batches() as stub:
        looks = []

        def look(batch_id):
            looks.append(batch_id)
            return stub.all_done(batch_id) if len(looks) > 7 else (404, NOT_FOUND)

        stub.look = look
        told = go(go.config(stub.base_url, rows=10, submit={"retry": SOON}, limits={"max_outage_s": 3}))
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors


def test_one_404_of_a_proxy_does_not_make_a_batch_uncertain(stub_batches: Any, go: Runs) -> None:
    """Four looks said that it is not there, and the last one that there is no list."""
    listed = []

    def list_batches():
        listed.append(1)
        return (404, NOT_FOUND) if len(listed) in (4, 7) else (200, [])

    def create(body):
        return (504, {"error": ERROR}) if len(stub.posts) == 1 else stub.accept(body)

    with stub_batches() as stub:
        stub.list, stub.create = list_batches, create
        told = go(
            go.config(
                stub.base_url,
                rows=10,
                target={"idempotency_header": None},
                submit={"retry": SOON},
                limits={"max_outage_s": 0.01},
            )
        )
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors
    assert len(stub.posts) == 2
