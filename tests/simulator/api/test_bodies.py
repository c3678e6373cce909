"""Bodies of replies follow the OpenAPI document, and bodies of requests are checked as it requires."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator.support import Virtual, body_of, content, schema_of, settings, taking


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
def test_response_objects_follow_the_schema_in_every_state(outcome: str) -> None:
    share = {} if outcome == "completed" else {outcome: 1.0}
    virtual = Virtual(taking(5.0, outcomes=share, reasoning_share=0.5))
    check = schema_of("ResponseObject").validate
    acknowledged = content(virtual.post(body_of(metadata={"completion_window": "flex", "mine": "é\"'"})))
    check(acknowledged)
    check(virtual.get(acknowledged["id"]))
    virtual.clock.now += 6
    done = virtual.get(acknowledged["id"])
    check(done)
    assert done["status"] == outcome
    assert done["metadata"] == {"completion_window": "flex", "mine": "é\"'"}


def test_models_and_errors_follow_the_schema() -> None:
    virtual = Virtual(settings(models=["a/model", "b/model"]))
    models = content(virtual.call("GET", "/v1/models"))
    schema_of("ModelListResponse").validate(models)
    assert [model["id"] for model in models["data"]] == ["a/model", "b/model"]
    check = schema_of("ErrorResponse").validate
    for reply in (
        virtual.call("GET", "/v1/models", api_key=None),
        virtual.call("GET", "/v1/responses/resp_unknown"),
        virtual.call("PUT", "/v1/responses"),
        virtual.call("GET", "/v1/nothing"),
        virtual.post(b"{"),
        virtual.post(body_of(model="c/model")),
    ):
        assert reply.status_code >= 400
        check(content(reply))


def test_a_response_repeats_the_parameters_of_its_request() -> None:
    parameters: dict[str, Any] = {
        "max_output_tokens": 12,
        "temperature": 0.5,
        "top_p": 0.25,
        "user": "someone",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
        "tools": [{"type": "function", "name": "f"}],
        "metadata": {"k": "v"},
    }
    virtual = Virtual()
    response = virtual.get(virtual.create("a", **parameters))
    assert response["text"]["format"]["schema"] == {"type": "object"}
    assert {name: response[name] for name in parameters if name != "text"} == {
        name: value for name, value in parameters.items() if name != "text"
    }


REFUSED: list[tuple[dict[str, object], str | None]] = [
    ({"model": None}, "model"),
    ({"input": None}, "input"),
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"role": "nobody", "content": "a"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, None),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": 1.5}, "max_output_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"user": "u" * 257}, "user"),
    ({"metadata": {"n": 1}}, "metadata[...]"),
    ({"truncation": "auto"}, "truncation"),
    ({"reasoning": {"effort": "enormous"}}, "reasoning.effort"),
    ({"text": {"format": {"type": "xml"}}}, None),
    ({"stream": True}, "stream"),
    ({"background": "yes"}, "background"),
    ({"metadata": {"completion_window": "yesterday"}}, "metadata.completion_window"),
    ({"metadata": {"completion_window": "asap"}}, "metadata.completion_window"),
]


@pytest.mark.parametrize(("change", "param"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_parameter_that_the_document_forbids_is_a_400_that_names_it(
    change: dict[str, object], param: str | None
) -> None:
    virtual = Virtual()
    reply = virtual.post(body_of(**change))
    assert reply.status_code == 400
    error = content(reply)["error"]
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert error["param"] == param
    assert virtual.service.report().rejected == 1


@pytest.mark.parametrize("missing", ["model", "input"])
def test_a_missing_field_is_named(missing: str) -> None:
    body = body_of()
    del body[missing]
    error = content(Virtual().post(body))["error"]
    assert error["param"] == missing


@pytest.mark.parametrize("change", [
    {"max_output_tokens": None}, {"max_output_tokens": 1}, {"temperature": 0}, {"temperature": 2.0},
    {"top_p": 1}, {"user": "u" * 256}, {"truncation": "disabled"}, {"something": "else"},
    {"metadata": {"completion_window": "flex"}}, {"raw_prompt_tokens": [1, 2, 3]},
    {"metadata": {"completion_window": "asap"}, "background": False},
], ids=str)  # fmt: skip
def test_parameters_that_the_document_allows_are_accepted(change: dict[str, object]) -> None:
    assert Virtual().post(body_of(**change)).status_code in (200, 202)


def test_the_refusal_of_a_window_lists_the_supported_ones() -> None:
    message = content(Virtual().post(body_of(metadata={"completion_window": "x"})))["error"]["message"]
    assert "priority, standard, balanced, flex" in message
    assert "asap" not in message


NOT_OBJECTS = (b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"model":"\xff"}')


@pytest.mark.parametrize("body", NOT_OBJECTS, ids=lambda body: repr(body[:10]))
def test_a_body_that_is_not_a_json_object_is_a_400(body: bytes) -> None:
    assert Virtual().post(body).status_code == 400


FIELDS = st.sampled_from([*body_of(), "metadata", "role", "content", "type"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_accepted_or_refused_and_never_breaks(value: object) -> None:
    assert Virtual().post(json.dumps(value).encode()).status_code in (200, 202, 400)


@given(st.dictionaries(FIELDS, JSON))
def test_any_fields_are_accepted_or_refused_and_never_break(change: dict[str, object]) -> None:
    assert Virtual().post(body_of(**change)).status_code in (200, 202, 400)
