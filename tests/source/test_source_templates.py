"""`source.prompt` and `source.custom_id`: Jinja over a row's fields, strict and sandboxed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runner.config import RunConfig
from runner.errors import ConfigError, InputError
from runner.source import Source


def test_fields_stand_under_their_names_and_under_row(bodies: Callable[..., list[dict[str, Any]]]) -> None:
    (body,) = bodies(
        '{"q": "why", "odd name": [1, {"x": "deep"}]}\n',
        prompt="{{ i }} {{ q }} {{ row['odd name'][1].x }}\n",
    )

    assert body["input"] == "0 why deep\n"


def test_text_is_not_escaped_as_html(bodies: Callable[..., list[dict[str, Any]]]) -> None:
    assert bodies('{"q": "<a & b>"}\n', prompt="{{ q }}")[0]["input"] == "<a & b>"


def test_an_undefined_field_is_named_with_the_fields_that_the_row_has(
    wrong: Callable[..., list[str]],
) -> None:
    said = wrong('{"question": "why", "topic": 1}\n{"question": 2}\n', prompt="{{ quesion }}")

    assert said[0].startswith("in.jsonl:1: source.prompt: 'quesion' is undefined")
    assert "question" in said[0].partition("the row has")[2]
    assert "topic" in said[0].partition("the row has")[2]
    assert said[1].startswith("in.jsonl:2: ")


def test_only_the_rows_that_lack_the_field_are_told(wrong: Callable[..., list[str]]) -> None:
    (said,) = wrong('{"q": 1}\n{"z": 1}\n{"q": 3}\n', prompt="{{ q }}")

    assert said.startswith("in.jsonl:2: ")


@pytest.mark.parametrize("key", ["prompt", "custom_id"])
@pytest.mark.parametrize("text", ["{{ q ", "{% nonsense %}", "{{ q | nofilter }}", "{% if q %}", "{{ }}"])
def test_a_template_that_is_none_is_a_config_error_that_names_it(
    source: Callable[..., Source], key: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=rf"source\.{key} is not a template") as told:
        source('{"q": "x"}\n', **{"prompt": "{{ q }}", key: text})
    assert told.value.exit_code == 2


def test_a_template_whose_constants_are_too_large_is_a_config_error_too(
    source: Callable[..., Source],
) -> None:
    with pytest.raises(ConfigError, match=r"source\.prompt"):
        source('{"q": "x"}\n', prompt="{{ 10 ** 10000 }}")


@pytest.mark.parametrize(
    "text",
    [
        "{{ q.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ range(10 ** 8) | list }}",
        "{{ row.update({'q': 1}) }}",
        "{{ row.clear() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
    ],
)
def test_a_template_cannot_reach_out_of_its_row(wrong: Callable[..., list[str]], text: str) -> None:
    (said,) = wrong('{"q": "x"}\n', prompt=text)

    assert said.startswith("in.jsonl:1: source.prompt: ")
    assert "root:" not in said


@pytest.mark.parametrize(
    "text",
    [
        "{{ 1 / 0 }}",
        "{{ n + 'a' }}",
        "{{ n | int('x') + q }}",
        "{{ q[1:2:0] }}",
        "{{ n | dictsort }}",
        "{{ n | wordwrap }}",
        "{{ n.items() }}",
        "{{ q() }}",
        "{% for a, b in q %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_whatever_a_template_raises_is_the_rows_error(wrong: Callable[..., list[str]], text: str) -> None:
    (said,) = wrong('{"q": "xyz", "n": 5}\n', prompt=text)

    assert said.startswith("in.jsonl:1: source.prompt: ")


def test_a_prompt_that_makes_nothing_is_an_error(wrong: Callable[..., list[str]]) -> None:
    assert wrong('{"q": ""}\n', prompt="{{ q }}") == ["in.jsonl:1: its input is empty"]


def _synthetic(**section) -> Source:
    request = {"model": "m"}
    return Source(
        RunConfig.model_validate(
            {"name": "a", "request": request, "source": {"type": "synthetic", **section}}
        )
    )


def test_synthetic_rows_are_numbered_questions_by_default() -> None:
    made = _synthetic(count=3)
    requests = [made.request(line) for block in made.blocks() for line in block]

    assert made.survey().rows == 3
    assert [request.custom_id for request in requests] == ["row-0", "row-1", "row-2"]
    assert b"What is a fun fact about the number 2?" in requests[2].body
    assert requests[2].body.count(b"word ") >= 50


def test_synthetic_has_a_hundred_rows_where_not_told_and_as_many_as_told() -> None:
    assert _synthetic().survey().rows == 100
    assert sum(map(len, _synthetic(count=5000).blocks())) == _synthetic(count=5000).survey().rows == 5000


def test_a_synthetic_prompt_is_checked_before_anything_is_sent() -> None:
    with pytest.raises(InputError, match="'q' is undefined"):
        _synthetic(prompt="{{ q }}").survey()


@pytest.mark.parametrize("custom_id", [None, "id-{{ i }}"])
def test_a_synthetic_prompt_that_fails_for_a_later_row_is_found_before_anything_is_sent(
    custom_id: str | None,
) -> None:
    with pytest.raises(InputError, match="ZeroDivisionError"):
        _synthetic(count=10, prompt="{{ 1 // (i - 7) }}", custom_id=custom_id).survey()


def test_synthetic_ids_that_are_alike_are_told_by_their_rows() -> None:
    with pytest.raises(InputError) as told:
        _synthetic(count=6, custom_id="{{ i % 4 }}").survey()

    assert [str(problem) for problem in told.value.problems] == [
        "row 4: custom_id '0' is already that of row 0",
        "row 5: custom_id '1' is already that of row 1",
    ]
