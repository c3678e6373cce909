"""The Batch API in virtual time: statuses, results, the list, and who sees which batch."""

from __future__ import annotations

import json

import pytest

from runner.simulator.api.reply import HttpReply
from runner.simulator.service.answers import answer_to
from tests.simulator.support import (
    Virtual,
    batch_of,
    body_of,
    content,
    listed,
    schema_of_reply,
    settings,
    taking,
)


def test_replies_about_a_batch_follow_the_document() -> None:
    virtual = Virtual(taking(10.0, reasoning_share=0.5))
    batch = content(virtual.batch(batch_of("a", "b", label="night-1")))
    schema_of_reply("/batches", "post").validate(batch)
    assert batch == {"id": batch["id"], "request_counts": 2, "created_at": 1_000_000, "label": "night-1"}
    for _ in ("running", "completed"):
        status = content(virtual.call("GET", f"/v1/batches/{batch['id']}"))
        schema_of_reply("/batches/{batch_id}", "get").validate(status)
        assert {name: status[name] for name in batch} == batch
        schema_of_reply("/batches/{batch_id}/{custom_id}", "get").validate(virtual.result(batch["id"], "a"))
        virtual.clock.now += 11
    page = listed(virtual.call("GET", "/v1/batches"))
    schema_of_reply("/batches", "get").validate(page)
    assert page == [batch]


def test_refusals_follow_the_document() -> None:
    virtual = Virtual()
    batch_id = virtual.create_batch("a")
    calls = [
        (virtual.batch(b"{"), "/batches", "post", 400),
        (virtual.batch(api_key=None), "/batches", "post", 401),
        (virtual.call("GET", "/v1/batches?limit=0"), "/batches", "get", 400),
        (virtual.call("GET", "/v1/batches/batch_x"), "/batches/{batch_id}", "get", 404),
        (virtual.call("GET", f"/v1/batches/{batch_id}/x"), "/batches/{batch_id}/{custom_id}", "get", 404),
    ]
    for reply, path, method, status_code in calls:
        assert reply.status_code == status_code
        schema_of_reply(path, method, status_code).validate(content(reply))


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_paths_are_served_with_and_without_v1(prefix: str) -> None:
    virtual = Virtual()
    batch = content(virtual.call("POST", f"{prefix}/batches", batch_of("a")))
    assert listed(virtual.call("GET", f"{prefix}/batches")) == [batch]
    assert virtual.call("GET", f"{prefix}/batches/{batch['id']}").status_code == 200
    assert virtual.call("GET", f"{prefix}/batches/{batch['id']}/a").status_code == 200


@pytest.mark.parametrize(("outcome", "word", "status"), [
    ("completed", "COMPLETED", "completed"), ("incomplete", "COMPLETED", "incomplete"),
    ("failed", "FAILED", "failed"), ("expired", "FAILED", "expired"),
    ("cancelled", "CANCELLED", "cancelled"),
])  # fmt: skip
def test_each_outcome_has_its_word_in_the_status_and_in_the_result(
    outcome: str, word: str, status: str
) -> None:
    share = {} if outcome == "completed" else {outcome: 1.0}
    virtual = Virtual(taking(10.0, capacity=1, outcomes=share))
    batch_id = virtual.create_batch("a", "b")
    assert virtual.states(batch_id) == ["RUNNING", "PENDING"]
    assert [virtual.result(batch_id, name)["status"] for name in "ab"] == ["running", "pending"]
    virtual.clock.now += 10
    assert virtual.states(batch_id) == [word, "RUNNING"]
    virtual.clock.now += 10
    assert virtual.states(batch_id) == [word, word]
    assert virtual.result(batch_id, "b")["status"] == status


def test_the_states_are_compact_and_in_the_order_of_the_requests() -> None:
    virtual = Virtual(taking(10.0))
    reply = virtual.call("GET", f"/v1/batches/{virtual.create_batch('b', 'a-1', '0_')}")
    states = b'"b":{"status":"RUNNING"},"a-1":{"status":"RUNNING"},"0_":{"status":"RUNNING"}'
    assert reply.body.endswith(b',"request_status":{' + states + b"}}")


def test_a_result_answers_its_own_prompt() -> None:
    virtual = Virtual()
    batch_id = virtual.create_batch("a", "b", metadata={"mine": "m"})
    for name in ("a", "b"):
        result = virtual.result(batch_id, name)
        text = result["output"][0]["content"][0]["text"]
        assert text == answer_to(name, result["usage"]["output_tokens"])
        assert result["metadata"] == {"mine": "m"}
        assert result["id"].startswith("resp_")
        assert virtual.get(result["id"]) == result


def test_the_draws_of_a_request_depend_on_its_params_and_not_on_its_batch() -> None:
    def drawn(*batches: tuple[str, ...]) -> dict[str, tuple[str, float]]:
        virtual = Virtual(settings(latency={"type": "exponential", "mean_s": 1.0}))
        for names in batches:
            virtual.create_batch(*names)
        return {
            str(job.terms.custom_id): (job.terms.id, job.terms.duration_s) for job in virtual.service.jobs()
        }

    assert drawn(("a", "b", "c")) == drawn(("c",), ("b", "a"))
    assert len(set(drawn(("a", "b", "c")).values())) == 3


def test_the_same_batch_twice_is_two_batches_with_different_responses() -> None:
    virtual = Virtual()
    first, second = virtual.create_batch("a"), virtual.create_batch("a")
    assert first != second
    assert virtual.result(first, "a")["id"] != virtual.result(second, "a")["id"]


def test_the_capacity_is_shared_with_single_jobs_in_the_order_of_arrival() -> None:
    virtual = Virtual(taking(10.0, capacity=2))
    first = virtual.create("first")
    batch_id = virtual.create_batch("a", "b", "c")
    last = virtual.create("last")
    assert virtual.states(batch_id) == ["RUNNING", "PENDING", "PENDING"]
    virtual.clock.now += 10
    assert virtual.states(batch_id) == ["COMPLETED", "RUNNING", "RUNNING"]
    assert (virtual.get(first)["status"], virtual.get(last)["status"]) == ("completed", "pending")
    virtual.clock.now += 10
    assert virtual.get(last)["status"] == "running"
    report = virtual.service.report()
    assert (report.accepted, report.executed, report.peak_running, report.peak_open) == (5, 5, 2, 5)


def test_a_result_counts_as_delivered_once_it_is_done_and_is_kept_for_the_retention() -> None:
    virtual = Virtual(taking(10.0, retention_s=600.0))
    batch_id = virtual.create_batch("a", "b")
    assert virtual.result(batch_id, "a")["status"] == "running"
    assert virtual.service.report().delivered == 0
    virtual.clock.now += 11
    virtual.result(batch_id, "a")
    report = virtual.service.report()
    assert (report.delivered, report.open, report.polls_after_delivery) == (1, 1, 0)
    virtual.clock.now += 599
    assert virtual.result(batch_id, "a")["status"] == "completed"
    virtual.clock.now += 2
    assert virtual.call("GET", f"/v1/batches/{batch_id}/a").status_code == 404
    assert virtual.states(batch_id) == ["COMPLETED", "COMPLETED"]
    assert virtual.result(batch_id, "b")["status"] == "completed"
    report = virtual.service.report()
    assert (report.delivered, report.open, report.polls_after_delivery) == (2, 0, 1)


def test_the_custom_id_in_the_path_may_be_percent_encoded() -> None:
    virtual = Virtual()
    batch_id = virtual.create_batch("a-b_c")
    assert virtual.call("GET", f"/v1/batches/{batch_id}/%61%2Db%5Fc").status_code == 200


@pytest.mark.parametrize("path", ["/batch_x", "/batch_x/a", "/{id}/x", "/{id}/", "/{id}/a/b", "/", "es"])
def test_an_unknown_batch_or_result_is_a_404(path: str) -> None:
    virtual = Virtual()
    batch_id = virtual.create_batch("a")
    reply = virtual.call("GET", f"/v1/batches{path.format(id=batch_id)}")
    assert (reply.status_code, content(reply)["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(("method", "path", "allow"), [
    ("DELETE", "/batches", "GET, POST"), ("PUT", "/batches", "GET, POST"),
    ("POST", "/batches/{id}", "GET"), ("DELETE", "/batches/{id}", "GET"),
    ("POST", "/batches/{id}/a", "GET"), ("POST", "/batches/{id}/cancel", "GET"),
])  # fmt: skip
def test_other_methods_are_a_405_that_lists_the_allowed_ones(method: str, path: str, allow: str) -> None:
    virtual = Virtual()
    reply = virtual.call(method, path.format(id=virtual.create_batch("a")), b"{}")
    assert (reply.status_code, reply.allow) == (405, allow)


# --- the list


def ids(reply: HttpReply) -> list[str]:
    """Return the ids of the listed batches."""
    return [batch["id"] for batch in listed(reply)]


def test_the_list_is_paged_from_the_newest_to_the_oldest() -> None:
    virtual = Virtual()
    made = [virtual.create_batch(f"a{i}") for i in range(30)]
    newest = made[::-1]

    def page(query: str) -> list[str]:
        return ids(virtual.call("GET", f"/v1/batches{query}"))

    assert page("") == newest[:25]
    assert page("?limit=200") == newest
    assert page("?limit=1") == newest[:1]
    assert page(f"?before_id={newest[24]}") == newest[25:]
    assert page(f"?limit=3&before_id={newest[4]}") == newest[5:8]
    assert page(f"?after_id={newest[4]}") == newest[:4]
    assert page(f"?after_id={newest[4]}&limit=2") == newest[:2]
    assert page(f"?after_id={newest[4]}&before_id={newest[1]}&limit=2") == newest[2:4]
    assert page(f"?after_id={newest[0]}") == page(f"?before_id={made[0]}") == []


@pytest.mark.parametrize(("query", "param"), [
    *((f"limit={limit}", "limit") for limit in ("0", "201", "-1", "1.5", "x", "", "%C2%B2")),
    ("after_id=batch_x", "after_id"), ("before_id=", "before_id"),
])  # fmt: skip
def test_a_bad_limit_or_cursor_is_a_400_that_names_it(query: str, param: str) -> None:
    virtual = Virtual()
    virtual.create_batch("a")
    reply = virtual.call("GET", f"/v1/batches?{query}")
    assert (reply.status_code, content(reply)["error"]["param"]) == (400, param)


def test_a_batch_is_visible_only_with_the_api_key_that_created_it() -> None:
    virtual = Virtual()
    mine = content(virtual.batch())["id"]
    for path in (f"/v1/batches/{mine}", f"/v1/batches/{mine}/a"):
        assert virtual.call("GET", path, api_key="other").status_code == 404
        assert virtual.call("GET", path).status_code == 200
    assert ids(virtual.call("GET", "/v1/batches", api_key="other")) == []
    assert virtual.call("GET", f"/v1/batches?after_id={mine}", api_key="other").status_code == 400
    theirs = content(virtual.batch(api_key="other"))["id"]
    assert ids(virtual.call("GET", "/v1/batches", api_key="other")) == [theirs]
    assert ids(virtual.call("GET", "/v1/batches")) == [mine]


# --- settings, limits, counts


def test_a_service_may_offer_no_batches_no_list_and_no_labels() -> None:
    none = Virtual(settings(batches={"offered": False}))
    for method, path in (("POST", ""), ("GET", ""), ("GET", "/batch_x"), ("GET", "/batch_x/a")):
        assert none.call(method, f"/v1/batches{path}", batch_of("a")).status_code == 404
    unlisted = Virtual(settings(batches={"listing": False}))
    assert unlisted.call("GET", "/v1/batches").status_code == 404
    assert unlisted.call("PUT", "/v1/batches").allow == "POST"
    assert unlisted.states(unlisted.create_batch("a")) == ["COMPLETED"]
    nameless = Virtual(settings(batches={"labels": False}))
    assert "label" not in content(nameless.batch(batch_of("a", label="night")))
    assert "label" not in listed(nameless.call("GET", "/v1/batches"))[0]


def test_every_reply_takes_exchange_s() -> None:
    virtual = Virtual(settings(exchange_s=0.5))
    made = virtual.batch(batch_of("a"))
    batch_id = content(made)["id"]
    gets = [
        virtual.call("GET", f"/v1/batches{path}") for path in ("", f"/{batch_id}", f"/{batch_id}/a", "/x")
    ]
    assert [reply.delay_s for reply in (made, virtual.batch(b"{"), *gets)] == [0.5] * 6


def test_the_rate_limits_include_batches() -> None:
    limit = {"per_s": 0.001, "burst": 2}
    virtual = Virtual(settings(rate_limits={"post": limit, "get": {**limit, "burst": 3}}))
    batch_id = virtual.create_batch("a")
    assert virtual.post().status_code == 202
    refused = virtual.batch()
    assert (refused.status_code, refused.retry_after) == (429, "1000")
    paths = ("", f"/{batch_id}", f"/{batch_id}/a", "")
    assert [virtual.call("GET", f"/v1/batches{path}").status_code for path in paths] == [200, 200, 200, 429]


def test_the_stats_count_batches_and_responses_separately() -> None:
    virtual = Virtual()
    batch_id = virtual.create_batch("a", "b", "c")
    virtual.batch(b"{")
    virtual.call("GET", f"/v1/batches/{batch_id}")
    virtual.call("GET", "/v1/batches")
    virtual.result(batch_id, "a")
    virtual.result(batch_id, "b")
    virtual.post(body_of("single"))
    report = virtual.service.report()
    assert (report.batch_posts, report.batches, report.batch_replays, report.rejected) == (2, 1, 0, 1)
    assert (report.batch_polls, report.batch_lists, report.result_gets) == (1, 1, 2)
    assert (report.posts, report.gets, report.accepted, report.executed) == (1, 0, 4, 4)
    assert (report.delivered, report.open, report.batch_posts_now) == (2, 2, 0)
    lines = b"".join(virtual.call("GET", "/simulator/jobs").stream or ()).splitlines()
    names = [(job["batch"], job["custom_id"]) for job in map(json.loads, lines)]
    assert names == [(batch_id, "a"), (batch_id, "b"), (batch_id, "c"), (None, None)]
