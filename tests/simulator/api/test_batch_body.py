"""The body of POST /batches: what is allowed, to the limit of each rule, and what a refusal names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator.support import Virtual, batch_of, content, params_of, schema_of, settings


def batch_with(request: object) -> dict[str, Any]:
    """Return a batch whose third request is this."""
    body = batch_of("a", "b")
    body["requests"].append(request)
    return body


def item(custom_id: object = "c", **params: Any) -> dict[str, Any]:
    """Return a request of a batch."""
    return {"custom_id": custom_id, "params": params_of(**params)}


BODIES: list[tuple[dict[str, object], str]] = [
    ({"endpoint": None}, "endpoint"),
    ({"endpoint": "/v1/chat/completions"}, "endpoint"),
    ({"endpoint": "/responses"}, "endpoint"),
    ({"requests": None}, "requests"),
    ({"requests": []}, "requests"),
    ({"requests": {}}, "requests"),
    ({"label": ""}, "label"),
    ({"label": None}, "label"),
    ({"label": "two words"}, "label"),
    ({"label": "line\n"}, "label"),
    ({"label": "gr\u00fcn"}, "label"),
    ({"label": "l" * 129}, "label"),
    ({"metadata": {}}, "metadata"),
    ({"completion_window": "24h"}, "completion_window"),
]


@pytest.mark.parametrize(("change", "param"), BODIES, ids=lambda value: str(value)[:40])
def test_a_field_that_the_document_forbids_is_a_400_that_names_it(
    change: dict[str, object], param: str
) -> None:
    virtual = Virtual()
    reply = virtual.batch({**batch_of("a"), **change})
    assert (reply.status_code, content(reply)["error"]["param"]) == (400, param)
    assert (virtual.service.report().rejected, virtual.service.report().accepted) == (1, 0)


@pytest.mark.parametrize("missing", ["endpoint", "requests"])
def test_a_missing_field_is_named(missing: str) -> None:
    body = batch_of("a")
    del body[missing]
    assert content(Virtual().batch(body))["error"]["param"] == missing


WINDOW = "params.metadata.completion_window"
REQUESTS: list[tuple[dict[str, object], str]] = [
    (item(""), "custom_id"),
    (item("C"), "custom_id"),
    (item("-c"), "custom_id"),
    (item("_c"), "custom_id"),
    (item("c c"), "custom_id"),
    (item("c\n"), "custom_id"),
    (item("c.c"), "custom_id"),
    (item("c" * 65), "custom_id"),
    (item(7), "custom_id"),
    (item("a"), "custom_id"),
    ({"custom_id": "c"}, "params"),
    ({"params": params_of()}, "custom_id"),
    ({**item(), "method": "POST"}, "method"),
    ({"custom_id": "c", "params": []}, "params"),
    ({"custom_id": "c", "params": None}, "params"),
    (item(model=None), "params.model"),
    (item(prompt=""), "params.input"),
    (item(prompt=[{"role": "nobody", "content": "a"}]), "params.input[0].role"),
    (item(max_output_tokens=0), "params.max_output_tokens"),
    (item(stream=True), "params.stream"),
    (item(background=True), "params.background"),
    (item(metadata={"completion_window": "asap"}), WINDOW),
    (item(metadata={"completion_window": "priority"}), WINDOW),
    (item(metadata={"completion_window": "yesterday"}), WINDOW),
]


@pytest.mark.parametrize(("request_", "param"), REQUESTS, ids=lambda value: str(value)[:60])
def test_a_wrong_request_is_named_by_index_and_custom_id(request_: dict[str, object], param: str) -> None:
    virtual = Virtual()
    reply = virtual.batch(batch_with(request_))
    error = content(reply)["error"]
    assert (reply.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == f"requests[2].{param}"
    named = isinstance(request_.get("custom_id"), str)
    name = f"requests[2] (custom_id {request_['custom_id']!r}): " if named else "requests[2]: "
    assert error["message"].startswith(name)
    assert virtual.service.report().accepted == 0


@pytest.mark.parametrize("request_", [None, 7, "c", []])
def test_a_request_that_is_not_an_object_is_named_by_index(request_: object) -> None:
    error = content(Virtual().batch(batch_with(request_)))["error"]
    assert error["param"] == "requests[2]"


@pytest.mark.parametrize(("form", "start"), [
    ("custom_id", "custom_id 'c': "), ("none", "One of the requests is invalid: "),
])  # fmt: skip
def test_a_wrong_request_may_be_named_by_custom_id_alone_or_not_at_all(form: str, start: str) -> None:
    virtual = Virtual(settings(batches={"names_item": form}, models=["zai-org/GLM-5"]))
    for request_ in (item(max_output_tokens=0), item(model="x"), {**item(), "method": "POST"}):
        error = content(virtual.batch(batch_with(request_)))["error"]
        assert error["param"] is None
        assert error["message"].startswith(start)
        assert "requests[" not in error["message"]
    error = content(virtual.batch(batch_with(item("a"))))["error"]
    assert error["message"] == start.replace("'c'", "'a'") + "custom_id is not unique within the batch."
    nameless = content(virtual.batch(batch_with({"params": params_of()})))["error"]["message"]
    assert nameless.startswith("A request without a custom_id: " if form == "custom_id" else start)


def test_the_first_wrong_request_is_named_and_the_code_of_an_unknown_model_is_kept() -> None:
    virtual = Virtual(settings(models=["zai-org/GLM-5"]))
    body = batch_with(item(model="x"))
    body["requests"].append(item("d", max_output_tokens=0))
    error = content(virtual.batch(body))["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "requests[2].params.model")


def test_the_refusal_of_a_window_lists_the_supported_ones() -> None:
    message = content(Virtual().batch(batch_of("a", metadata={"completion_window": "priority"})))["error"]
    assert message["message"].endswith("is not supported with batch; use one of: standard, balanced, flex.")


def test_bodies_that_the_document_allows_are_accepted_to_the_limit() -> None:
    check = schema_of("CreateBatchRequest").validate
    bodies = [
        batch_of("a", "0", "a-_", "c" * 64, label="l" * 128),
        batch_of("a", label="Aa0_-"),
        batch_of("a", background=False, stream=False, metadata={"completion_window": "flex"}),
        batch_of("a", something="else"),
    ]
    for body in bodies:
        check(body)
        assert Virtual().batch(body).status_code == 200


def test_a_batch_may_have_as_many_requests_as_the_settings_say() -> None:
    virtual = Virtual(settings(batches={"max_requests": 3}))
    assert virtual.batch(batch_of("a", "b", "c")).status_code == 200
    error = content(virtual.batch(batch_of("a", "b", "c", "d")))["error"]
    assert error["param"] == "requests"
    assert "at most 3 requests" in error["message"]


START = b'{"endpoint":"/v1/responses","requests":['
NOT_OBJECTS = (
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"endpoint":"\xff"}', START + b"[" * 100_000),
    START + b'{"custom_id":"a","params":{"model":"\xff"}}]}',
    START + b'{"custom_id":"\xff"}]}',
    START + b'{"custom_id":"a","params":{"model":"\\x"}}]}',
)


@pytest.mark.parametrize("body", NOT_OBJECTS, ids=lambda body: f"{len(body)} {body[-20:]!r}")
def test_a_body_that_is_not_a_json_object_is_a_400(body: bytes) -> None:
    assert Virtual().batch(body).status_code == 400


FIELDS = st.sampled_from(["endpoint", "label", "requests", "custom_id", "params", "model", "input"])
LEAVES = st.sampled_from([None, True, 1, 0.5, "", "a", "/v1/responses"])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner), max_leaves=12
)


@given(st.dictionaries(FIELDS, JSON), st.sampled_from(["index", "custom_id", "none"]))
def test_any_json_is_accepted_or_refused_and_never_breaks(change: dict[str, Any], form: str) -> None:
    virtual = Virtual(settings(batches={"names_item": form}))
    assert virtual.batch(change).status_code == 400
    assert virtual.batch({**batch_of("a"), **change}).status_code in (200, 400)
    assert virtual.batch(batch_with(change)).status_code in (200, 400)
