"""The four shapes of a row, the merge under `request`, and what a row must not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.records import Request
from runner.source import Source
from runner.source.rows import Compiler, RowError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def test_the_four_shapes_are_told_apart_by_their_fields(requests: Callable[..., list[Request]]) -> None:
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


def test_a_row_of_data_whose_prompt_uses_input_is_not_a_request(
    bodies: Callable[..., list[dict[str, Any]]],
) -> None:
    alpaca = '{"instruction": "Add", "input": "1 and 2", "output": "3"}\n'

    assert bodies(alpaca, prompt="{{ instruction }}: {{ input }}") == [
        {"model": "m", "input": "Add: 1 and 2"}
    ]


@pytest.mark.parametrize("prompt", ["{{ row.input }}", "{{ row['input'] }}"])
def test_a_prompt_that_uses_input_through_row_uses_it_all_the_same(
    bodies: Callable[..., list[dict[str, Any]]], prompt: str
) -> None:
    assert bodies('{"instruction": "Add", "input": "1"}\n', prompt=prompt) == [{"model": "m", "input": "1"}]


def test_a_row_that_is_a_request_stays_one_beside_a_prompt_that_does_not_use_its_input(
    bodies: Callable[..., list[dict[str, Any]]],
) -> None:
    assert bodies('{"input": "mine"}\n', prompt="{{ question }}") == [{"model": "m", "input": "mine"}]


def test_batch_lines_stay_batch_lines_even_when_the_prompt_uses_input(
    bodies: Callable[..., list[dict[str, Any]]],
) -> None:
    rows = '{"params": {"input": "x"}}\n{"url": "/v1/responses", "body": {"input": "y"}}\n'

    assert [body["input"] for body in bodies(rows, prompt="{{ input }}!")] == ["x", "y"]


def test_rows_are_merged_under_request_key_by_key_and_the_row_wins(
    bodies: Callable[..., list[dict[str, Any]]],
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
def test_what_a_row_says_is_in_its_body_and_what_it_leaves_out_is_the_configs(
    defaults: Any, own: Any
) -> None:
    before = json.dumps(defaults)
    compiler = Compiler({"model": "m", **defaults}, None, None)
    body = msgspec.json.decode(compiler.compile(0, {"input": "x", **own}).body)

    def holds(over, under, merged):
        for key in over.keys() | under.keys():
            if key in over and key in under and isinstance(over[key], dict) and isinstance(under[key], dict):
                holds(over[key], under[key], merged[key])
            else:
                assert merged[key] == (over[key] if key in over else under[key])

    holds(own, defaults, body)
    assert set(body) == {"model", "input", "background"} | defaults.keys() | own.keys()
    assert json.dumps(defaults) == before  # the config is no row's to change


def test_the_same_row_makes_the_same_bytes_every_time(source: Callable[..., Source]) -> None:
    made = source('{"input": "é", "metadata": {"b": 1, "a": 2}}\n')
    line = next(made.blocks())[0]

    assert made.request(line) == made.request(line)


def test_large_numbers_come_through_as_they_were_written(bodies: Callable[..., list[dict[str, Any]]]) -> None:
    assert bodies('{"input": "x", "seed": 123456789012345678901234567890}\n')[0]["seed"] == (
        123456789012345678901234567890
    )


def test_the_kind_is_the_model_and_the_completion_window(requests: Callable[..., list[Request]]) -> None:
    made = requests(
        '{"input": "x"}\n'
        '{"input": "x", "metadata": {"completion_window": "asap"}}\n'
        '{"input": "x", "model": "n", "metadata": null}\n'
    )

    assert [request.kind for request in made] == ["m", "m asap", "n"]


def test_ids_are_the_rows_own_or_made_of_its_number(requests: Callable[..., list[Request]]) -> None:
    made = requests('{"input": "x"}\n{"custom_id": "mine", "input": "x"}\n\n{"input": "x"}\n')

    assert [request.custom_id for request in made] == ["row-0", "mine", "row-2"]
    assert all(b"custom_id" not in request.body for request in made)


def test_an_id_template_wins_over_the_rows_own_id(requests: Callable[..., list[Request]]) -> None:
    made = requests(
        '{"custom_id": "mine", "input": "x", "k": 7}\n', custom_id="{{ custom_id }}-{{ k }}-{{ i }}"
    )

    assert [request.custom_id for request in made] == ["mine-7-0"]


@pytest.mark.parametrize("custom_id", ["5", "null", '""', "[]", "true"])
def test_an_id_that_is_no_text_is_an_error(wrong: Callable[..., list[str]], custom_id: str) -> None:
    (said,) = wrong(f'{{"input": "x", "custom_id": {custom_id}}}\n')

    assert said.startswith("in.jsonl:1: its custom_id must be a string that is not empty")


def test_an_id_template_that_makes_nothing_is_an_error(wrong: Callable[..., list[str]]) -> None:
    assert "must be a string that is not empty" in wrong('{"input": "x"}\n', custom_id="{{ '' }}")[0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"q": 1}', "source.prompt is not set"),
        ('{"custom_id": "a", "body": {"input": "x"}}', "source.prompt is not set"),
        ('{"custom_id": "a", "params": 5}', "source.prompt is not set"),
        ('{"url": "/v1/responses", "body": [1]}', "its body is not an object but a list"),
        ('{"url": "/v1/responses", "body": null}', "its body is not an object but null"),
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
def test_a_row_that_cannot_be_sent_is_told_with_file_and_line(
    wrong: Callable[..., list[str]], row: str, said: str
) -> None:
    (problem,) = wrong(f'{{"input": "good"}}\n{row}\n')

    assert problem.startswith("in.jsonl:2: ")
    assert said in problem


def test_a_row_without_a_model_anywhere_says_where_to_put_one(wrong: Callable[..., list[str]]) -> None:
    assert "request.model" in wrong('{"input": "x"}\n', request={})[0]


def test_text_that_is_not_utf_8_is_told_with_its_line(wrong: Callable[..., list[str]]) -> None:
    (said,) = wrong(b'{"input": "x"}\n{"input": "\xe9t\xe9"}\n')

    assert said.startswith("in.jsonl:2: is not JSON")


def test_all_bad_rows_are_told_together_up_to_a_bound(wrong: Callable[..., list[str]]) -> None:
    said = wrong("{\n" * 3 + '{"input": "x"}\n' + "[]\n")
    assert [line.split(": ")[0] for line in said] == ["in.jsonl:1", "in.jsonl:2", "in.jsonl:3", "in.jsonl:5"]

    said = wrong("{\n" * 5000)
    assert said[0].startswith("in.jsonl:1: ")
    assert said[0].endswith("(and 19 more rows like it)")
    assert said[1:] == ["and perhaps more: reading stopped here"]


@given(row=JSON)
@settings(deadline=None, max_examples=100)
def test_any_json_is_a_request_or_a_row_error(row: Any) -> None:
    compiler = Compiler({"model": "m"}, None, None)
    with suppress(RowError):
        request = compiler.compile(3, compiler.parse(json.dumps(row).encode("utf-8", "surrogatepass")))
        assert b"\n" not in request.body
        assert msgspec.json.decode(request.body)["background"] is True


@given(line=st.binary(max_size=60))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_an_object_or_a_row_error(line: Any) -> None:
    compiler = Compiler({"model": "m"}, None, None)
    with suppress(RowError):
        assert isinstance(compiler.parse(line), dict)
