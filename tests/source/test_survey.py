"""The check of all rows before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.errors import InputError
from runner.records import Request
from runner.source import survey, unique
from runner.source.compiler import Compiler
from runner.source.unique import Seen
from tests.source.making import MakeSource, Problems, synthetic


def test_all_bad_rows_are_reported_together_up_to_a_bound(wrong: Problems) -> None:
    found = wrong("{\n" * 3 + '{"input": "x"}\n' + "[]\n")
    assert [line.split(": ")[0] for line in found] == ["in.jsonl:1", "in.jsonl:2", "in.jsonl:3", "in.jsonl:5"]

    found = wrong("{\n" * 5000)
    assert found[0].startswith("in.jsonl:1: ")
    assert found[0].endswith("(and 19 more rows like it)")
    assert found[1:] == ["and perhaps more: reading stopped here"]


def test_a_duplicate_id_is_reported_with_both_lines(wrong: Problems) -> None:
    found = wrong('{"custom_id": "a", "input": "x"}\n{"input": "x"}\n\n{"custom_id": "a", "input": "y"}\n')

    assert found == ["in.jsonl:4: custom_id 'a' is already used by in.jsonl:1"]


def test_a_row_s_own_id_may_equal_a_generated_one(wrong: Problems) -> None:
    found = wrong('{"custom_id": "row-1", "input": "x"}\n{"input": "x"}\n')

    assert found == ["in.jsonl:2: custom_id 'row-1' is already used by in.jsonl:1"]


def test_duplicates_are_found_across_files_and_each_one_names_the_first_row(
    wrong: Problems,
) -> None:
    Path("a.part").write_text('{"custom_id": "x", "input": "1"}\n')
    Path("b.part").write_text('{"custom_id": "y", "input": "1"}\n{"custom_id": "x", "input": "1"}\n')
    Path("c.part").write_text('{"custom_id": "x", "input": "1"}')

    assert wrong(None, path="*.part") == [
        "b.part:2: custom_id 'x' is already used by a.part:1",
        "c.part:1: custom_id 'x' is already used by a.part:1",
    ]


def test_duplicates_and_bad_rows_are_reported_together(wrong: Problems) -> None:
    found = wrong('{"custom_id": "a", "input": "x"}\n{"input": ""}\n{"custom_id": "a", "input": "x"}\n')

    assert any("its input is empty" in line for line in found)
    assert any(line.startswith("in.jsonl:3: custom_id 'a'") for line in found)


def test_duplicates_are_found_among_ids_that_were_spilled_to_disk(
    wrong: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "Seen", lambda: Seen(chunk_ids=3))
    rows = [f'{{"custom_id": "id-{n}", "input": "x"}}' for n in [*range(20), 4, *range(20, 30), 29]]

    assert wrong("\n".join(rows)) == [
        "in.jsonl:21: custom_id 'id-4' is already used by in.jsonl:5",
        "in.jsonl:32: custom_id 'id-29' is already used by in.jsonl:31",
    ]


def test_different_ids_with_the_same_digest_are_no_duplicates(
    source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(custom_id: str) -> int:
        return len(custom_id)

    monkeypatch.setattr(unique, "digest", coarse)
    monkeypatch.setattr(survey, "digest", coarse)

    assert source("".join(f'{{"custom_id": "{c}", "input": "x"}}\n' for c in "abcdef")).survey().rows == 6


def test_a_true_duplicate_is_found_among_ids_with_the_same_digest(
    wrong: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unique, "digest", len)
    monkeypatch.setattr(survey, "digest", len)

    assert wrong("".join(f'{{"custom_id": "{c}", "input": "x"}}\n' for c in "abca")) == [
        "in.jsonl:4: custom_id 'a' is already used by in.jsonl:1"
    ]


def test_a_file_full_of_duplicates_does_not_fill_the_screen(wrong: Problems) -> None:
    found = wrong('{"custom_id": "a", "input": "x"}\n' * 5000)

    assert found == [
        "in.jsonl:2: custom_id 'a' is already used by in.jsonl:1 (and 19 more rows like it)",
        "and perhaps more",
    ]


def test_a_prompt_for_generated_rows_is_checked_by_the_survey() -> None:
    with pytest.raises(InputError, match="'q' is undefined"):
        synthetic(prompt="{{ q }}").survey()


@pytest.mark.parametrize("custom_id", [None, "id-{{ i }}"])
def test_a_prompt_that_fails_for_a_later_generated_row_is_found_by_the_survey(
    custom_id: str | None,
) -> None:
    with pytest.raises(InputError, match="ZeroDivisionError"):
        synthetic(count=10, prompt="{{ 1 // (i - 7) }}", custom_id=custom_id).survey()


def test_duplicate_ids_of_generated_rows_are_reported_by_row() -> None:
    with pytest.raises(InputError) as raised:
        synthetic(count=6, custom_id="{{ i % 4 }}").survey()

    assert [str(problem) for problem in raised.value.problems] == [
        "row 4: custom_id '0' is already used by row 0",
        "row 5: custom_id '1' is already used by row 1",
    ]


def test_rows_that_differ_only_by_number_are_not_all_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    original = Compiler.compile

    def compile_(compiler: Compiler, i: int, fields: dict[str, Any]) -> Request:
        compiled.append(i)
        return original(compiler, i, fields)

    monkeypatch.setattr(Compiler, "compile", compile_)

    assert synthetic(count=5000).survey().rows == 5000
    assert compiled == [0]
    assert synthetic(count=5, custom_id="a-{{ i }}").survey().rows == 5
    assert compiled == [0, 0, 1, 2, 3, 4]
