"""How faults are drawn; and what each one does on the endpoints of batches, and leaves behind."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config.simulation import Simulator
from runner.simulator.api.reply import HttpReply
from tests.simulator.fault_kinds import KINDS, SPOILING, check_reply
from tests.simulator.support import Virtual, batch_of, body_of, content, listed, settings


def faulty(table: str, kind: str) -> Simulator:
    return settings(faults={table: {kind: 1.0}}, fault_s=5.0)


def check_fault(kind: str, reply: HttpReply) -> Any:
    """Check that a reply is what the fault's name says; return its content if there is any."""
    manner = {"cut": "cut", "reset": "reset", "lost": "close", "hang": "hang"}.get(kind, "whole")
    assert reply.manner == manner
    assert reply.delay_s == (5.0 if kind == "slow" else 0.0)
    return None if manner in ("reset", "hang") else check_reply(kind, reply.status_code, reply.body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_on_a_post_creates_the_batch_or_not(kind: str) -> None:
    virtual = Virtual(faulty("batch", kind))
    received = check_fault(kind, virtual.batch(batch_of("a", "b", label="l")))
    report = virtual.service.report()
    made = int(kind in SPOILING)
    assert (report.batches, report.accepted, report.executed) == (made, 2 * made, 2 * made)
    assert report.faults == {"post": {}, "get": {}, "batch": {kind: 1}}
    assert report.batch_posts_now == 0
    if kind == "no_id":
        assert "id" not in received
        assert received["label"] == "l"
    elif kind == "odd_status":
        assert (received["status"], received["request_counts"]) == ("warming_up", 2)
    elif kind == "not_object":
        assert isinstance(received, list)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_on_the_status_of_a_batch_is_what_its_name_says(kind: str) -> None:
    virtual = Virtual(faulty("status", kind))
    received = check_fault(kind, virtual.call("GET", f"/v1/batches/{virtual.create_batch('a', 'b')}"))
    assert virtual.service.report().faults == {"post": {}, "get": {}, "status": {kind: 1}}
    if kind == "no_id":
        assert "id" not in received
        assert len(received["request_status"]) == 2
    elif kind == "odd_status":
        assert received["request_status"] == {"a": {"status": "WARMING_UP"}, "b": {"status": "WARMING_UP"}}
    elif kind == "not_object":
        assert isinstance(received, list)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_on_the_list_changes_each_batch_in_it(kind: str, count: int) -> None:
    virtual = Virtual(faulty("status", kind))
    for i in range(count):
        virtual.create_batch(f"a{i}")
    received = check_fault(kind, virtual.call("GET", "/v1/batches"))
    assert virtual.service.report().faults == {"post": {}, "get": {}, "status": {kind: 1}}
    if kind == "no_id":
        assert [sorted(batch) for batch in received] == [["created_at", "request_counts"]] * count
    elif kind == "odd_status":
        assert [batch["status"] for batch in received] == ["warming_up"] * count
    elif kind == "not_object":
        assert len(received["data"]) == count


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_fault_slow_lets_a_result_be_delivered(kind: str) -> None:
    virtual = Virtual(faulty("result", kind))
    received = check_fault(kind, virtual.call("GET", f"/v1/batches/{virtual.create_batch('a')}/a"))
    report = virtual.service.report()
    assert report.delivered == int(kind == "slow")
    assert report.faults == {"post": {}, "get": {}, "result": {kind: 1}}
    if kind == "odd_status":
        assert received["status"] == "warming_up"


def test_faults_have_their_probability_and_are_the_same_in_each_run() -> None:
    def codes() -> list[int]:
        virtual = Virtual(settings(faults={"post": {"500": 0.2, "503": 0.1}}))
        return [virtual.post(body_of(f"p{i}")).status_code for i in range(400)]

    first = codes()
    assert first == codes()
    assert first.count(500) / 400 == pytest.approx(0.2, abs=0.06)
    assert first.count(503) / 400 == pytest.approx(0.1, abs=0.05)


def test_faults_of_batches_are_drawn_for_each_exchange_and_are_the_same_in_each_run() -> None:
    def codes() -> list[list[int]]:
        share = {"500": 0.3}
        virtual = Virtual(settings(faults={"batch": share, "status": share, "result": share}))
        posts, batch_id = [], ""
        for _ in range(100):
            reply = virtual.batch(batch_of("a"))
            posts.append(reply.status_code)
            if reply.status_code == 200:
                batch_id = content(reply)["id"]
        paths = (f"/v1/batches/{batch_id}", "/v1/batches", f"/v1/batches/{batch_id}/a")
        return [posts, *([virtual.call("GET", path).status_code for _ in range(100)] for path in paths)]

    first = codes()
    assert first == codes()
    assert all(15 <= of_table.count(500) <= 45 for of_table in first)


def test_a_batch_whose_acknowledgement_was_lost_is_found_by_its_key_and_by_its_label() -> None:
    virtual = Virtual(faulty("batch", "lost"))
    for _ in range(2):
        assert virtual.batch(batch_of("a", label="night"), key="k").manner == "close"
    report = virtual.service.report()
    assert (report.batches, report.batch_replays, report.executed) == (1, 1, 1)
    assert [batch["label"] for batch in listed(virtual.call("GET", "/v1/batches"))] == ["night"]
