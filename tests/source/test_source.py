"""A source: its rows, and the request of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import ConfigError, StoppedEarly
from tests.source.making import MakeSource, synthetic


def test_a_source_can_be_read_any_number_of_times(source: MakeSource) -> None:
    made = source('{"input": "x"}\n{"input": "y"}\n')

    assert list(made.blocks()) == list(made.blocks())
    assert made.survey() == made.survey()


def test_a_row_that_was_changed_after_the_survey_stops_the_run(
    source: MakeSource,
) -> None:
    made = source('{"input": "x"}\n')
    made.survey()
    Path("in.jsonl").write_text('{"input": ""}\n')

    with pytest.raises(StoppedEarly, match=r"in\.jsonl:1: the input changed") as raised:
        made.request(next(made.blocks())[0])
    assert raised.value.exit_code == 3


def test_the_name_of_a_row_is_the_id_of_its_request(source: MakeSource) -> None:
    made = source('{"custom_id": "a", "input": "x"}\n{"input": "y"}\n')
    rows = next(made.blocks())

    assert [made.name(row) for row in rows] == [made.request(row).custom_id for row in rows] == ["a", "row-1"]


def test_the_name_of_a_row_that_was_changed_after_the_survey_stops_the_run(source: MakeSource) -> None:
    made = source('{"input": "x"}\n')
    made.survey()
    Path("in.jsonl").write_text("[]\n")

    with pytest.raises(StoppedEarly, match=r"in\.jsonl:1: the input changed .* not a JSON object"):
        made.name(next(made.blocks())[0])


def test_a_wrong_template_is_reported_before_a_missing_file(source: MakeSource) -> None:
    with pytest.raises(ConfigError, match=r"source\.prompt is not a valid template"):
        source(None, path="none.jsonl", prompt="{{ q")


def test_a_prompt_wins_over_the_default_of_generated_rows() -> None:
    made = synthetic(count=1, prompt="number {{ i }}")

    assert b'"number 0"' in made.request(next(made.blocks())[0]).body
