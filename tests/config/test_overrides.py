"""`--set section.key=value`."""

from __future__ import annotations

import pytest

from runner.config.source import SyntheticSource
from tests.config.reading import Problems, Read


def test_an_override_wins_over_the_file_and_creates_missing_sections(
    read: Read,
) -> None:
    config = read(
        "name: a\nsource: {count: 5}\n",
        [
            "source.count=6",
            "submit.retry.max_attempts=2",
            "request.metadata.completion_window=asap",
            "name=b",
        ],
    )

    assert config.name == "b"
    assert config.source == SyntheticSource(count=6)
    assert config.submit.retry.max_attempts == 2
    assert config.submit.retry.cap_s == 60
    assert config.request == {"metadata": {"completion_window": "asap"}}


def test_values_are_yaml_and_the_last_override_wins(read: Read) -> None:
    config = read(
        "name: a\n",
        [
            "request.text=a=b",
            "request.list=[1, two]",
            "request.map={x: 1}",
            "poll.max_rate=null",
            "request.quoted='7'",
            "poll.interval_s=3",
            "poll.interval_s=2.5",
            "target.idempotency_header=",
        ],
    )

    assert config.request == {"text": "a=b", "list": [1, "two"], "map": {"x": 1}, "quoted": "7"}
    assert config.poll.max_rate is None
    assert config.poll.interval_s == 2.5
    assert config.target.idempotency_header is None


def test_an_override_fills_an_empty_section(read: Read) -> None:
    assert read("name: a\nsource:\n", ["source.count=3"]).source == SyntheticSource(count=3)


@pytest.mark.parametrize("text", ["source.count", "=3", "a..b=3", ".=1", "", "source.=1"])
def test_a_malformed_override_is_reported_as_it_was_typed(problems: Problems, text: str) -> None:
    (problem,) = problems("name: a\n", [text])

    assert "section.key=value" in problem.what
    assert problem.where == f"--set {text}"


def test_an_override_whose_value_is_not_yaml_is_the_text_itself(problems: Problems, read: Read) -> None:
    template = "{{ a }}: {{ b }}"
    assert read("name: a\n", [f"source.prompt={template}"]).source.prompt == template
    (problem,) = problems("name: a\n", ["source.count=[1"])
    assert problem.where == "--set source.count=[1"


def test_a_wrong_value_of_an_override_is_reported_at_the_override(
    problems: Problems,
) -> None:
    (problem,) = problems("name: a\nsource:\n  count: 4\n", ["source.count=-3"])

    assert problem.where == "--set source.count=-3"
    assert problem.what.startswith("source.count: ")
    assert "-3" in problem.what


def test_an_unknown_key_of_an_override_is_reported_with_the_nearest_key(
    problems: Problems,
) -> None:
    (problem,) = problems("name: a\npoll:\n  factor: 2\n", ["poll.intervall_s=3"])

    assert (problem.what, problem.where) == ("unknown key poll.intervall_s", "--set poll.intervall_s=3")
    assert problem.hint == "did you mean poll.interval_s?"


def test_a_key_in_an_override_of_a_whole_section_is_reported_at_the_override(
    problems: Problems,
) -> None:
    (problem,) = problems("name: a\nsource:\n  count: 4\n", ["source={count: 5, coutn: 7}"])

    assert problem.where == "--set source={count: 5, coutn: 7}"
    assert "did you mean source.count?" in problem.hint


def test_bad_overrides_and_a_bad_file_are_reported_together(problems: Problems) -> None:
    found = problems("name: a b\nsubmit:\n  concurrency: 0\n", ["nonsense", "poll.factor=0.5"])

    assert {problem.where for problem in found} == {
        "--set nonsense",
        "--set poll.factor=0.5",
        "run.yaml:1",
        "run.yaml:3",
    }
