"""How a batch comes to be, in virtual time: once for a key, a slice at a time, and all at once for others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.simulator.api.reply import HttpReply
from runner.simulator.http.wire import HttpRequest
from runner.simulator.service import time_slice
from tests.simulator.support import KEY, Virtual, batch_of, content, listed, params_of, settings

SLOW: dict[str, Any] = {"latency": {"type": "constant", "mean_s": 10.0}}


def created(virtual: Virtual, **more: Any) -> dict[str, Any]:
    return content(virtual.batch(batch_of("a", "b"), **more))


def test_a_key_sent_again_with_the_same_body_gives_the_same_batch() -> None:
    virtual = Virtual()
    first = created(virtual, key="k")
    virtual.clock.now += 100
    assert created(virtual, key="k") == first
    report = virtual.service.report()
    assert (report.batches, report.batch_replays, report.accepted) == (1, 1, 2)


def test_a_key_sent_again_with_another_body_is_an_idempotency_error() -> None:
    virtual = Virtual()
    created(virtual, key="k")
    virtual.post(key="single")
    for reply in (
        virtual.batch(batch_of("c"), key="k"),
        virtual.batch(key="single"),
        virtual.post(key="k"),
    ):
        assert (reply.status_code, content(reply)["error"]["type"]) == (400, "idempotency_error")


def test_a_key_is_not_used_up_by_a_refusal_is_another_under_another_api_key_and_ends_after_24_hours() -> None:
    virtual = Virtual()
    assert virtual.batch(batch_of("a", "a"), key="k").status_code == 400
    first = created(virtual, key="k")["id"]
    assert created(virtual, key="k", api_key="other")["id"] != first
    virtual.clock.now += 86_399
    assert created(virtual, key="k")["id"] == first
    virtual.clock.now += 2
    assert created(virtual, key="k")["id"] != first
    assert virtual.batch(key="k" * 256).status_code == 400


def test_without_idempotency_the_header_is_ignored() -> None:
    virtual = Virtual(settings(idempotency=False))
    assert created(virtual, key="k")["id"] != created(virtual, key="k")["id"]


# --- creation in slices


def posted(virtual: Virtual, body: dict[str, Any], key: str) -> HttpReply:
    headers = {b"authorization": f"Bearer {KEY}".encode(), b"idempotency-key": key.encode()}
    raw = json.dumps(body).encode()
    return virtual.api.answer(
        HttpRequest("POST", "/batches", headers, keep_alive=True, chunks=True, body=raw)
    )


def test_a_batch_is_there_all_at_once_and_its_requests_begin_after_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time_slice, "SLICE_S", 0.0)
    virtual = Virtual(settings(**SLOW))
    names = [f"a{i}" for i in range(50)]
    work = posted(virtual, batch_of(*names), "k").work
    assert work is not None
    slices = 0
    while not isinstance(said := next(work), HttpReply):
        slices += 1
        assert listed(virtual.call("GET", "/v1/batches")) == []
        assert list(virtual.service.jobs()) == []
    assert slices == 100
    batch_id = content(said)["id"]
    assert virtual.states(batch_id) == ["PENDING"] * 50
    assert list(work) == []
    assert virtual.states(batch_id) == ["RUNNING"] * 50


def test_a_key_sent_twice_at_once_makes_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slice, "SLICE_S", 0.0)
    virtual = Virtual()
    works = [posted(virtual, batch_of("a", "b"), "k").work or iter(()) for _ in range(2)]
    said = [next(work, None) for _ in range(10) for work in works]
    replies = [content(reply) for reply in said if isinstance(reply, HttpReply)]
    assert len(replies) == 2
    assert replies[0] == replies[1]
    report = virtual.service.report()
    assert (report.batches, report.batch_replays) == (1, 1)


def test_a_batch_is_created_and_answered_so_long_after_its_body_has_come() -> None:
    virtual = Virtual(settings(batches={"create_s": 5.0}))
    assert content(virtual.batch())["created_at"] == 1_000_005
    assert virtual.batch(batch_of("A")).status_code == 400
    assert virtual.clock.now == 1_000_005, "a refusal needs no time"


def test_params_need_not_be_ascii_and_are_hashed_as_they_came() -> None:
    virtual = Virtual()
    request = {"custom_id": "a", "params": params_of("gr\u00fc\u00dfe \U0001f600")}
    raw = json.dumps({"endpoint": "/v1/responses", "requests": [request]}, ensure_ascii=False).encode()
    batch_id = content(virtual.batch(raw))["id"]
    assert virtual.result(batch_id, "a")["usage"]["input_tokens"] == 2
