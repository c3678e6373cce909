"""The fingerprint of the input changes exactly when the requests could."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config import RunConfig
from runner.source import Source

ROWS = '{"q": "x"}\n{"q": "y"}\n'


def test_the_same_input_has_the_same_fingerprint_and_survey_tells_it(source: Callable[..., Source]) -> None:
    first = source(ROWS, prompt="{{ q }}")

    assert first.fingerprint() == source(ROWS, prompt="{{ q }}").fingerprint()
    assert first.survey().fingerprint == first.fingerprint()
    assert len(first.fingerprint()) == 64


@pytest.mark.parametrize(
    ("content", "section"),
    [
        ('{"q": "x"}\n{"q": "z"}\n', {"prompt": "{{ q }}"}),
        ('{"q": "y"}\n{"q": "x"}\n', {"prompt": "{{ q }}"}),
        (ROWS + '{"q": "z"}\n', {"prompt": "{{ q }}"}),
        ('{"q": "x"}\n', {"prompt": "{{ q }}"}),
        (ROWS, {"prompt": "{{ q }} "}),
        (ROWS, {"prompt": "{{ q }}", "custom_id": "{{ q }}"}),
        (ROWS, {"prompt": "{{ q }}", "custom_id": "row-{{ i }}"}),
    ],
)
def test_other_rows_another_order_or_another_template_are_another_input(
    source: Callable[..., Source], content: Any, section: dict[str, Any]
) -> None:
    before = source(ROWS, prompt="{{ q }}").fingerprint()

    assert source(content, **section).fingerprint() != before


def test_prompt_and_id_cannot_be_confused_with_each_other(source: Callable[..., Source]) -> None:
    one = source(ROWS, prompt="ab", custom_id="c{{ i }}")
    other = source(ROWS, prompt="a", custom_id="bc{{ i }}")

    assert one.fingerprint() != other.fingerprint()


def test_what_only_says_where_the_rows_are_or_how_they_are_sent_changes_nothing(
    source: Callable[..., Source],
) -> None:
    before = source(ROWS, prompt="{{ q }}").fingerprint()
    Path("moved.jsonl").write_text(ROWS)

    assert source(None, prompt="{{ q }}", path="moved.jsonl").fingerprint() == before
    assert source(None, prompt="{{ q }}", request={"model": "other"}).fingerprint() == before


def test_the_order_of_the_files_of_a_glob_matters(source: Callable[..., Source]) -> None:
    Path("a.part").write_text('{"input": "x"}\n')
    Path("b.part").write_text('{"input": "y"}\n')
    before = source(None, path="*.part").fingerprint()
    Path("a.part").rename("c.part")

    assert source(None, path="*.part").fingerprint() != before


def test_the_input_is_read_anew_for_each_fingerprint(source: Callable[..., Source]) -> None:
    made = source(ROWS, prompt="{{ q }}")
    before = made.fingerprint()
    Path("in.jsonl").write_text(ROWS.replace("x", "w"))

    assert made.fingerprint() != before


def test_synthetic_rows_differ_by_count_and_templates_alone() -> None:
    def fingerprint(**section) -> str:
        config = {"name": "a", "request": {"model": "m"}, "source": section}
        return Source(RunConfig.model_validate(config)).fingerprint()

    assert fingerprint() == fingerprint(count=100) == fingerprint(type="synthetic")
    different = [{}, {"count": 99}, {"prompt": "{{ i }}"}, {"custom_id": "{{ i }}"}]
    assert len({fingerprint(**section) for section in different}) == 4
