"""`source.prompt` and `source.custom_id`: Jinja over a row's fields, strict and sandboxed."""

from __future__ import annotations

import pytest

from runner.errors import ConfigError
from tests.source.making import Bodies, MakeSource, Problems


def test_fields_are_available_by_name_and_through_row(bodies: Bodies) -> None:
    (body,) = bodies(
        '{"q": "why", "odd name": [1, {"x": "deep"}]}\n',
        prompt="{{ i }} {{ q }} {{ row['odd name'][1].x }}\n",
    )

    assert body["input"] == "0 why deep\n"


def test_text_is_not_escaped_as_html(bodies: Bodies) -> None:
    assert bodies('{"q": "<a & b>"}\n', prompt="{{ q }}")[0]["input"] == "<a & b>"


def test_an_undefined_field_is_named_with_the_fields_that_the_row_has(
    wrong: Problems,
) -> None:
    found = wrong('{"question": "why", "topic": 1}\n{"question": 2}\n', prompt="{{ quesion }}")

    assert found[0].startswith("in.jsonl:1: source.prompt: 'quesion' is undefined")
    assert "question" in found[0].partition("the row has")[2]
    assert "topic" in found[0].partition("the row has")[2]
    assert found[1].startswith("in.jsonl:2: ")


def test_only_the_rows_that_lack_the_field_are_reported(wrong: Problems) -> None:
    (problem,) = wrong('{"q": 1}\n{"z": 1}\n{"q": 3}\n', prompt="{{ q }}")

    assert problem.startswith("in.jsonl:2: ")


@pytest.mark.parametrize("key", ["prompt", "custom_id"])
@pytest.mark.parametrize("text", ["{{ q ", "{% nonsense %}", "{{ q | nofilter }}", "{% if q %}", "{{ }}"])
def test_an_invalid_template_is_a_config_error_that_names_it(source: MakeSource, key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"source\.{key} is not a valid template") as raised:
        source('{"q": "x"}\n', None, **{"prompt": "{{ q }}", key: text})
    assert raised.value.exit_code == 2


def test_a_template_with_too_large_a_constant_is_a_config_error(
    source: MakeSource,
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
def test_a_template_cannot_reach_beyond_its_row(wrong: Problems, text: str) -> None:
    (problem,) = wrong('{"q": "x"}\n', prompt=text)

    assert problem.startswith("in.jsonl:1: source.prompt: ")
    assert "root:" not in problem


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
def test_any_exception_in_a_template_is_an_error_of_the_row(wrong: Problems, text: str) -> None:
    (problem,) = wrong('{"q": "xyz", "n": 5}\n', prompt=text)

    assert problem.startswith("in.jsonl:1: source.prompt: ")


def test_a_prompt_that_renders_to_nothing_is_an_error(wrong: Problems) -> None:
    assert wrong('{"q": ""}\n', prompt="{{ q }}") == ["in.jsonl:1: its input is empty"]
