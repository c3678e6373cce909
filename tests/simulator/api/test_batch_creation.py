"""How a batch is created, in virtual time: once for each key, in slices, and visible all at once."""

from __future__ import annotations

import json

import pytest

from runner.simulator.api.reply import HttpReply
from runner.simulator.service import time_slice
from tests.simulator.support import Virtual, batch_of, content, listed, params_of, settings, taking


def test_a_repeated_key_with_the_same_body_returns_the_same_batch() -> None:
    virtual = Virtual()
    first = content(virtual.batch(key="k"))
    virtual.clock.now += 100
    assert content(virtual.batch(key="k")) == first
    report = virtual.service.report()
    assert (report.batches, report.batch_replays, report.accepted) == (1, 1, 2)


def test_a_repeated_key_with_another_body_is_an_idempotency_error() -> None:
    virtual = Virtual()
    virtual.batch(key="k")
    virtual.post(key="single")
    for reply in (
        virtual.batch(batch_of("c"), key="k"),
        virtual.batch(key="single"),
        virtual.post(key="k"),
    ):
        assert (reply.status_code, content(reply)["error"]["type"]) == (400, "idempotency_error")


def test_a_refused_batch_does_not_use_up_its_key() -> None:
    virtual = Virtual()
    assert virtual.batch(batch_of("a", "a"), key="k").status_code == 400
    assert virtual.batch(key="k").status_code == 200


def test_equal_keys_of_two_api_keys_are_independent() -> None:
    virtual = Virtual()
    first = content(virtual.batch(key="k"))["id"]
    assert content(virtual.batch(key="k", api_key="other"))["id"] != first


def test_a_key_is_forgotten_after_24_hours() -> None:
    virtual = Virtual()
    first = content(virtual.batch(key="k"))["id"]
    virtual.clock.now += 86_399
    assert content(virtual.batch(key="k"))["id"] == first
    virtual.clock.now += 2
    assert content(virtual.batch(key="k"))["id"] != first


def test_a_key_may_have_255_characters() -> None:
    virtual = Virtual()
    assert virtual.batch(key="k" * 255).status_code == 200
    assert virtual.batch(key="k" * 256).status_code == 400


def test_without_idempotency_the_header_is_ignored() -> None:
    virtual = Virtual(settings(idempotency=False))
    assert content(virtual.batch(key="k"))["id"] != content(virtual.batch(key="k"))["id"]


# --- creation in slices


def test_a_batch_becomes_visible_as_a_whole_and_its_requests_start_after_the_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time_slice, "SLICE_S", 0.0)
    virtual = Virtual(taking(10.0))
    names = [f"a{i}" for i in range(50)]
    work = virtual.answer("POST", "/batches", batch_of(*names), "k").work
    assert work is not None
    slices = 0
    while not isinstance(step := next(work), HttpReply):
        slices += 1
        assert listed(virtual.call("GET", "/v1/batches")) == []
        assert list(virtual.service.jobs()) == []
    assert slices == 100
    batch_id = content(step)["id"]
    assert virtual.states(batch_id) == ["PENDING"] * 50
    assert list(work) == []
    assert virtual.states(batch_id) == ["RUNNING"] * 50


def test_one_key_posted_twice_at_the_same_time_creates_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slice, "SLICE_S", 0.0)
    virtual = Virtual()
    works = [virtual.answer("POST", "/batches", batch_of("a", "b"), "k").work or iter(()) for _ in range(2)]
    steps = [next(work, None) for _ in range(10) for work in works]
    replies = [content(step) for step in steps if isinstance(step, HttpReply)]
    assert len(replies) == 2
    assert replies[0] == replies[1]
    report = virtual.service.report()
    assert (report.batches, report.batch_replays) == (1, 1)


def test_create_s_passes_between_the_arrival_of_a_body_and_the_creation_of_its_batch() -> None:
    virtual = Virtual(settings(batches={"create_s": 5.0}))
    assert content(virtual.batch())["created_at"] == 1_000_005
    assert virtual.batch(batch_of("A")).status_code == 400
    assert virtual.clock.now == 1_000_005, "a refusal takes no time"


def test_params_may_contain_any_characters() -> None:
    virtual = Virtual()
    request = {"custom_id": "a", "params": params_of("gr\u00fc\u00dfe \U0001f600")}
    raw = json.dumps({"endpoint": "/v1/responses", "requests": [request]}, ensure_ascii=False).encode()
    batch_id = content(virtual.batch(raw))["id"]
    assert virtual.result(batch_id, "a")["usage"]["input_tokens"] == 2
