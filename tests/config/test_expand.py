"""Environment variables in a config: `${NAME}`, `${NAME:-default}`, `$$`."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.config import load
from runner.config.source import SyntheticSource
from tests.config.reading import Problems, Read


def test_variables_are_taken_from_the_environment(read: Read) -> None:
    config = read(
        "name: ${WHO}\n"
        "request:\n  model: ${MODEL:-small}\n  user: a${WHO}b${NONE:-}c\n  user2: ${MODEL:-x y}\n",
        environ={"WHO": "me"},
    )

    assert config.name == "me"
    assert config.request == {"model": "small", "user": "amebc", "user2": "x y"}


def test_an_empty_variable_gets_the_default_as_in_a_shell(read: Read) -> None:
    assert read("name: ${WHO:-you}\n", environ={"WHO": ""}).name == "you"


def test_two_dollars_become_one_and_other_dollars_stay(read: Read) -> None:
    config = read(
        "name: a\nrequest: {a: '$${X}', b: $5, c: '$HOME', d: '${', e: '${1X}', f: '$$$${X}', g: '$$${N}'}\n",
        environ={"N": "n"},
    )

    assert config.request == {
        "a": "${X}",
        "b": "$5",
        "c": "$HOME",
        "d": "${",
        "e": "${1X}",
        "f": "$${X}",
        "g": "$n",
    }


def test_a_value_that_is_one_whole_variable_can_be_a_number_or_a_boolean(
    read: Read,
) -> None:
    config = read(
        "name: a\nsource:\n  count: ${ROWS:-100}\npoll:\n  interval_s: ${WAIT}\n"
        "request:\n  flag: ${FLAG}\n  text: x${ROWS:-1}\n  list: '${LIST}'\n",
        environ={"WAIT": "0.5", "FLAG": "true", "LIST": "[1, 2]"},
    )

    assert config.source == SyntheticSource(count=100)
    assert config.poll.interval_s == 0.5
    assert config.request == {"flag": True, "text": "x1", "list": "[1, 2]"}


def test_variables_work_in_lists_and_in_overrides(read: Read) -> None:
    config = read(
        "name: a\nsimulator:\n  models: ['${M}', other]\n",
        ["source.count=${ROWS}"],
        {"M": "mine", "ROWS": "9"},
    )

    assert config.simulator.models == ("mine", "other")
    assert config.source == SyntheticSource(count=9)


def test_the_value_of_a_variable_is_not_expanded_again(read: Read) -> None:
    assert read("name: a\nrequest: {p: '${P}'}\n", environ={"P": "${Q} $$"}).request == {"p": "${Q} $$"}


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_with_doubled_dollars_comes_through_unchanged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.yaml"
    content = yaml.safe_dump({"name": "a", "request": {"p": text.replace("$", "$$")}}, allow_unicode=True)
    path.write_text(content, encoding="utf-8")

    assert load(path, environ={}).request == {"p": text}


def test_an_unset_variable_is_reported_once_with_its_name_its_place_and_a_remedy(
    problems: Problems,
) -> None:
    (problem,) = problems("name: a\nrequest:\n  model: ${MODEL}\n")

    assert problem.what == "request.model needs the environment variable MODEL, which is not set"
    assert problem.where == "run.yaml:3"
    assert "${MODEL:-default}" in problem.hint


def test_an_unset_variable_is_the_only_error_of_its_key(
    problems: Problems,
) -> None:
    found = problems("name: a\nsource:\n  count: ${ROWS}\nsubmit:\n  concurrency: 0\n")

    assert [problem.where for problem in found] == ["run.yaml:3", "run.yaml:5"]
