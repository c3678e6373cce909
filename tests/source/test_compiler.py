"""The four shapes of a row, the merge under `request`, and what a row must not be."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.source.compiler import Compiler
from runner.source.readers.json_lines import JsonRow
from runner.source.row import RowError
from tests.source.making import Bodies, MakeSource, Problems, Requests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def fields_of(line: bytes) -> dict[str, Any]:
    """Decode a line as the reader of JSON lines does."""
    return JsonRow(0, line, "in.jsonl", 1).fields()


def test_the_four_shapes_are_distinguished_by_their_fields(requests: Requests) -> None:
    made = requests(
        '{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"input": "one"}}\n'
        '{"custom_id": "b", "params": {"input": "two", "model": "own"}}\n'
        '{"custom_id": "c", "input": "three", "temperature": 0}\n'
        '{"custom_id": "d", "question": "four"}\n',
        prompt="Q: {{ question }}",
    )

    assert [request.custom_id for request in made] == ["a", "b", "c", "d"]
    assert [msgspec.json.decode(request.body) for request in made] == [
        {"model": "m", "input": "one", "background": True},
        {"model": "own", "input": "two", "background": True},
        {"model": "m", "input": "three", "temperature": 0, "background": True},
        {"model": "m", "input": "Q: four", "background": True},
    ]
    assert [request.row for request in made] == [0, 1, 2, 3]


def test_a_row_is_data_if_the_prompt_uses_its_input(
    bodies: Bodies,
) -> None:
    alpaca = '{"instruction": "Add", "input": "1 and 2", "output": "3"}\n'

    assert bodies(alpaca, prompt="{{ instruction }}: {{ input }}") == [
        {"model": "m", "input": "Add: 1 and 2"}
    ]


@pytest.mark.parametrize("prompt", ["{{ row.input }}", "{{ row['input'] }}"])
def test_a_prompt_may_use_input_through_row(bodies: Bodies, prompt: str) -> None:
    assert bodies('{"instruction": "Add", "input": "1"}\n', prompt=prompt) == [{"model": "m", "input": "1"}]


def test_a_row_is_a_request_if_the_prompt_does_not_use_its_input(
    bodies: Bodies,
) -> None:
    assert bodies('{"input": "mine"}\n', prompt="{{ question }}") == [{"model": "m", "input": "mine"}]


def test_batch_lines_are_requests_even_if_the_prompt_uses_input(
    bodies: Bodies,
) -> None:
    rows = '{"params": {"input": "x"}}\n{"url": "/v1/responses", "body": {"input": "y"}}\n'

    assert [body["input"] for body in bodies(rows, prompt="{{ input }}!")] == ["x", "y"]


def test_a_row_is_merged_over_the_config_s_request_key_by_key(
    bodies: Bodies,
) -> None:
    (body,) = bodies(
        '{"input": "x", "metadata": {"a": {"z": 1}, "own": true}, "tools": [1], "reasoning": null}\n',
        request={
            "model": "m",
            "metadata": {"b": 2, "a": {"y": 2, "z": 3}},
            "tools": [2, 3],
            "reasoning": {"effort": "low"},
            "max_output_tokens": 5,
        },
    )

    assert body == {
        "model": "m",
        "input": "x",
        "metadata": {"a": {"y": 2, "z": 1}, "b": 2, "own": True},
        "tools": [1],
        "reasoning": None,
        "max_output_tokens": 5,
    }


@given(
    defaults=st.dictionaries(st.sampled_from("abcd"), JSON),
    own=st.dictionaries(st.sampled_from("abcd"), JSON),
)
@settings(deadline=None, max_examples=50)
def test_a_body_has_the_row_s_fields_and_otherwise_those_of_the_config(
    defaults: dict[str, Any], own: dict[str, Any]
) -> None:
    before = json.dumps(defaults)
    compiler = Compiler({"model": "m", **defaults}, None, None)
    body = msgspec.json.decode(compiler.compile(0, {"input": "x", **own}).body)

    def holds(over: dict[str, Any], under: dict[str, Any], merged: dict[str, Any]) -> None:
        for key in over.keys() | under.keys():
            if key in over and key in under and isinstance(over[key], dict) and isinstance(under[key], dict):
                holds(over[key], under[key], merged[key])
            else:
                assert merged[key] == (over[key] if key in over else under[key])

    holds(own, defaults, body)
    assert set(body) == {"model", "input", "background"} | defaults.keys() | own.keys()
    assert json.dumps(defaults) == before  # no row changes the config


def test_the_same_row_makes_the_same_bytes_every_time(source: MakeSource) -> None:
    made = source('{"input": "é", "metadata": {"b": 1, "a": 2}}\n')
    line = next(made.blocks())[0]

    assert made.request(line) == made.request(line)


def test_large_numbers_come_through_unchanged(bodies: Bodies) -> None:
    assert bodies('{"input": "x", "seed": 123456789012345678901234567890}\n')[0]["seed"] == (
        123456789012345678901234567890
    )


def test_the_kind_is_the_model_and_the_completion_window(requests: Requests) -> None:
    made = requests(
        '{"input": "x"}\n'
        '{"input": "x", "metadata": {"completion_window": "asap"}}\n'
        '{"input": "x", "model": "n", "metadata": null}\n'
    )

    assert [request.kind for request in made] == ["m", "m asap", "n"]


def test_an_id_is_the_row_s_own_or_made_of_its_number(requests: Requests) -> None:
    made = requests('{"input": "x"}\n{"custom_id": "mine", "input": "x"}\n\n{"input": "x"}\n')

    assert [request.custom_id for request in made] == ["row-0", "mine", "row-2"]
    assert all(b"custom_id" not in request.body for request in made)


def test_an_id_template_wins_over_the_row_s_own_id(requests: Requests) -> None:
    made = requests(
        '{"custom_id": "mine", "input": "x", "k": 7}\n', custom_id="{{ custom_id }}-{{ k }}-{{ i }}"
    )

    assert [request.custom_id for request in made] == ["mine-7-0"]


@pytest.mark.parametrize("custom_id", ["5", "null", '""', "[]", "true"])
def test_an_id_that_is_not_text_is_an_error(wrong: Problems, custom_id: str) -> None:
    (problem,) = wrong(f'{{"input": "x", "custom_id": {custom_id}}}\n')

    assert problem.startswith("in.jsonl:1: its custom_id must be a non-empty string")


def test_an_id_template_that_renders_to_nothing_is_an_error(wrong: Problems) -> None:
    assert "must be a non-empty string" in wrong('{"input": "x"}\n', custom_id="{{ '' }}")[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"q": 1}', "set source.prompt"),
        ('{"custom_id": "a", "body": {"input": "x"}}', "set source.prompt"),
        ('{"custom_id": "a", "params": 5}', "set source.prompt"),
        ('{"url": "/v1/responses", "body": [1]}', "its body must be an object, not a list"),
        ('{"url": "/v1/responses", "body": null}', "its body must be an object, not null"),
        ('{"url": "/v1/chat/completions", "body": {"input": "x"}}', "only /v1/responses can be sent"),
        ('{"url": 5, "body": {"input": "x"}}', "only /v1/responses can be sent"),
        ('{"method": "GET", "url": "/v1/responses", "body": {"input": "x"}}', "only POST can be sent"),
        ('{"input": ""}', "its input is empty"),
        ('{"input": []}', "its input is empty"),
        ('{"input": null}', "its input is empty"),
        ('{"params": {"max_output_tokens": 5}}', "its input is empty"),
        ('{"input": "x", "model": 5}', "has no model"),
        ('{"input": "x", "model": ""}', "has no model"),
        ('{"input": "x", "stream": true}', "stream"),
        ('{"input": "x", "background": false}', "background"),
        ("[1]", "is not a JSON object but a list"),
        ('"x"', "is not a JSON object but a string"),
        ("5", "is not a JSON object but a number"),
        ("null", "is not a JSON object but null"),
        ("true", "is not a JSON object but a boolean"),
        ('{"input": "x', "is not JSON"),
        ('{"input": "x"} {"input": "y"}', "is not JSON"),
        ("{'input': 'x'}", "is not JSON"),
        ('{"input": NaN}', "is not JSON"),
        ('{"input": ' + "[" * 9999 + "]" * 9999 + "}", "is not JSON"),
    ],
    ids=lambda value: value[:36],
)
def test_a_row_that_cannot_be_sent_is_reported_with_file_and_line(
    wrong: Problems, row: str, message: str
) -> None:
    (problem,) = wrong(f'{{"input": "good"}}\n{row}\n')

    assert problem.startswith("in.jsonl:2: ")
    assert message in problem


def test_a_missing_model_is_reported_with_a_remedy(wrong: Problems) -> None:
    assert "request.model" in wrong('{"input": "x"}\n', request={})[0]


@given(row=JSON)
@settings(deadline=None, max_examples=100)
def test_any_json_is_a_request_or_a_row_error(row: object) -> None:
    compiler = Compiler({"model": "m"}, None, None)
    with suppress(RowError):
        request = compiler.compile(3, fields_of(json.dumps(row).encode("utf-8", "surrogatepass")))
        assert b"\n" not in request.body
        assert msgspec.json.decode(request.body)["background"] is True
