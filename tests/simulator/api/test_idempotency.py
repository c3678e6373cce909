"""The rules of the Idempotency-Key in virtual time."""

from __future__ import annotations

import pytest

from tests.simulator.support import Virtual, body_of, content, settings, taking


def test_a_repeated_key_with_the_same_body_returns_the_same_job_in_its_current_state() -> None:
    virtual = Virtual(taking(5.0))
    first = content(virtual.post(key="k"))
    assert content(virtual.post(key="k")) == {**first, "status": "running"}
    virtual.clock.now += 6
    repeated = virtual.post(key="k")
    assert repeated.status_code == 202
    assert content(repeated)["id"] == first["id"]
    assert content(repeated)["status"] == "completed"
    report = virtual.service.report()
    assert (report.accepted, report.replayed, report.executed, report.delivered) == (1, 2, 1, 1)


def test_a_repeated_key_with_another_body_is_an_idempotency_error() -> None:
    virtual = Virtual()
    virtual.post(key="k")
    refused = virtual.post(body_of("another"), key="k")
    assert refused.status_code == 400
    assert content(refused)["error"]["type"] == "idempotency_error"
    assert virtual.service.report().accepted == 1


def test_a_refused_request_does_not_use_up_its_key() -> None:
    virtual = Virtual()
    assert virtual.post(body_of("a", temperature=3), key="k").status_code == 400
    assert virtual.post(body_of("a"), key="k").status_code == 202


def test_equal_keys_of_two_api_keys_are_independent() -> None:
    virtual = Virtual()
    first = content(virtual.post(key="k", api_key="one"))
    second = content(virtual.post(key="k", api_key="two"))
    assert first["id"] != second["id"]


def test_a_key_is_forgotten_after_24_hours() -> None:
    virtual = Virtual()
    first = content(virtual.post(key="k"))["id"]
    virtual.clock.now += 86_399
    assert content(virtual.post(key="k"))["id"] == first
    virtual.clock.now += 2
    assert content(virtual.post(key="k"))["id"] != first


def test_the_key_of_a_failed_response_returns_the_failed_response() -> None:
    virtual = Virtual(settings(outcomes={"failed": 1.0}))
    first = content(virtual.post(key="k"))["id"]
    repeated = content(virtual.post(key="k"))
    assert (repeated["id"], repeated["status"]) == (first, "failed")
    assert repeated["error"]["message"]
    assert content(virtual.post(key="new"))["id"] != first


@pytest.mark.parametrize(("length", "status_code"), [(255, 202), (256, 400)])
def test_a_key_may_have_255_characters(length: int, status_code: int) -> None:
    assert Virtual().post(key="k" * length).status_code == status_code


def test_without_idempotency_the_header_is_ignored() -> None:
    virtual = Virtual(settings(idempotency=False))
    ids = {content(virtual.post(key="k"))["id"] for _ in range(3)}
    assert len(ids) == 3
