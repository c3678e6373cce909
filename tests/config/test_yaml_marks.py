"""YAML files: what a config may use of YAML, and how the rest is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config import load
from runner.config.source import SyntheticSource
from runner.errors import ConfigError
from tests.config.reading import Problems, Read


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(read: Read) -> None:
    assert read(b"\xef\xbb\xbfname: a\r\nsource:\r\n  count: 3\r\n").source == SyntheticSource(count=3)


def test_anchors_and_merge_keys_work_and_a_section_s_own_key_wins(read: Read) -> None:
    config = read(
        "name: &n shared\n"
        "request: {model: *n}\n"
        "submit: &limits {concurrency: 7}\n"
        "poll:\n  <<: *limits\n  strategy: fixed\n"
        "simulator:\n  windows: {<<: {flex: 3, asap: 1}, flex: 2}\n"
    )

    assert config.request == {"model": "shared"}
    assert (config.submit.concurrency, config.poll.concurrency) == (7, 7)
    assert config.simulator.windows == {"flex": 2, "asap": 1}


def test_several_merge_keys_in_one_section_are_no_duplicate(read: Read) -> None:
    assert read("name: a\nrequest:\n  <<: {a: 1}\n  <<: {b: 2}\n").request == {"a": 1, "b": 2}


def test_a_key_that_yaml_reads_as_a_number_is_text(read: Read) -> None:
    assert read("name: a\nsimulator: {faults: {post: {500: 0.25}}}\n").simulator.faults.post == {"500": 0.25}


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("name: a\nname: b\n", "name", 2),
        ("name: a\nsubmit:\n  concurrency: 1\n  concurrency: 2\n", "submit.concurrency", 4),
        ("name: a\nrequest:\n  m:\n    - {k: 1, k: 2}\n", "request.m.0.k", 4),
        ("name: a\nsimulator: {faults: {post: {500: 0.5, '500': 0.1}}}\n", "simulator.faults.post.500", 2),
    ],
)
def test_a_duplicate_key_is_reported_at_its_second_place(
    problems: Problems, text: str, path: str, line: int
) -> None:
    (problem,) = problems(text)

    assert (problem.what, problem.where) == (f"{path} is given twice", f"run.yaml:{line}")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("name: a\nsource:\n\tcount: 3\n", "run.yaml:3", "is not YAML"),
        ("name: a\nsource: {count: 3\n", "run.yaml:3", "is not YAML"),
        ("name: 'a\n", "run.yaml:2", "is not YAML"),
        ("name: a\nrequest: *nobody\n", "run.yaml:2", "is not YAML"),
        ("name: a\nrequest: !!python/object:os.system {}\n", "run.yaml:2", "is not YAML"),
        ("name: a\n---\nname: b\n", "run.yaml:2", "is not YAML"),
        ("name: a\n? [x]\n: 3\n", "run.yaml:2", "is not YAML"),
        ("", "run.yaml", "is empty"),
        ("# nothing here\n", "run.yaml", "is empty"),
        ("- name: a\n", "run.yaml:1", "mapping"),
        ("hello\n", "run.yaml:1", "mapping"),
        (b"name: \xe9\n", "run.yaml", "UTF-8"),
        (b"name: a\x00b\n", "run.yaml", "is not YAML"),
        ("name: a\nrequest: " + "[" * 700 + "]" * 700 + "\n", "run.yaml", "is not YAML"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_file_that_is_no_config_is_one_problem_with_its_place(
    problems: Problems, text: bytes | str, where: str, message: str
) -> None:
    (problem,) = problems(text)

    assert problem.where in (where, f"{where}:1")
    assert message in problem.what


def test_a_mapping_that_contains_itself_is_one_problem(problems: Problems) -> None:
    assert len(problems("name: a\nrequest: &r\n  self: *r\n")) == 1


@pytest.mark.parametrize("key", ["~", "1.5", "true", "2020-01-01"])
def test_a_key_that_is_not_text_is_reported_with_its_line(problems: Problems, key: str) -> None:
    (problem,) = problems(f"name: a\n{key}: 3\n")

    assert problem.where == "run.yaml:2"
    assert not problem.what.startswith(":")


def test_a_missing_file_and_a_directory_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: there is no such config file"):
        load(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path)


ROWS = '{"input": "x"}\n{"input": "y"}\n'


def test_a_file_of_json_lines_is_recognised_in_place_of_a_config(problems: Problems) -> None:
    (problem,) = problems(ROWS)

    assert str(problem).startswith("run.yaml: this looks like JSON lines; expected a YAML config")
    assert "source.path" in problem.hint


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.jsonl", '{"a": "torn\n', "this looks like JSON lines"),
        ("rows.csv", "a,b\n1,2\n", "this looks like CSV"),
        ("rows.csv", 'a,"b\n1,2\n', "this looks like CSV"),
        ("run.yml", '{"input": [\n', "is not YAML"),
    ],
)
def test_a_file_of_rows_is_recognised_by_its_name(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError, match=message):
        load(tmp_path / name)
