"""The fingerprint of the input changes exactly when the requests could."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.source.making import MakeSource, synthetic

ROWS = '{"q": "x"}\n{"q": "y"}\n'


def test_the_same_input_has_the_same_fingerprint_which_survey_returns(source: MakeSource) -> None:
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
def test_other_rows_another_order_or_another_template_change_the_fingerprint(
    source: MakeSource, content: str, section: dict[str, str]
) -> None:
    before = source(ROWS, prompt="{{ q }}").fingerprint()

    assert source(content, None, **section).fingerprint() != before


def test_prompt_and_id_are_not_confused_with_each_other(source: MakeSource) -> None:
    one = source(ROWS, prompt="ab", custom_id="c{{ i }}")
    other = source(ROWS, prompt="a", custom_id="bc{{ i }}")

    assert one.fingerprint() != other.fingerprint()


def test_the_path_and_the_request_do_not_change_the_fingerprint(
    source: MakeSource,
) -> None:
    before = source(ROWS, prompt="{{ q }}").fingerprint()
    Path("moved.jsonl").write_text(ROWS)

    assert source(None, prompt="{{ q }}", path="moved.jsonl").fingerprint() == before
    assert source(None, prompt="{{ q }}", request={"model": "other"}).fingerprint() == before


def test_the_order_of_the_files_of_a_glob_matters(source: MakeSource) -> None:
    Path("a.part").write_text('{"input": "x"}\n')
    Path("b.part").write_text('{"input": "y"}\n')
    before = source(None, path="*.part").fingerprint()
    Path("a.part").rename("c.part")

    assert source(None, path="*.part").fingerprint() != before


def test_the_input_is_read_again_for_each_fingerprint(source: MakeSource) -> None:
    made = source(ROWS, prompt="{{ q }}")
    before = made.fingerprint()
    Path("in.jsonl").write_text(ROWS.replace("x", "w"))

    assert made.fingerprint() != before


def test_only_count_and_templates_change_the_fingerprint_of_generated_rows() -> None:
    default = synthetic().fingerprint()
    assert default == synthetic(count=100).fingerprint() == synthetic(type="synthetic").fingerprint()

    different = [synthetic(count=99), synthetic(prompt="{{ i }}"), synthetic(custom_id="{{ i }}")]
    assert len({default, *(source.fingerprint() for source in different)}) == 4
