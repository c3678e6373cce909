"""Everything that can be wrong with a config, each with file, line, path and what was perhaps meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import RunConfig, load
from runner.errors import ConfigError, Problem, RunnerError

EVERYTHING_WRONG = """\
name: a b
target:
  base_url: ftp://x
  timeout_s: -1
  api_key_env: sk-123
source:
  coutn: 3
  type: jsonll
submit: 5
pol: {}
poll:
  interval_s: .inf
  strategy: [fixed]
simulator:
  latency: {type: lognorma}
  faults:
    post: {"999": 0.1}
  windows:
    flex: 0
  models: [a, 3]
prices:
  input: cheap
"""


def test_all_errors_are_told_at_once_in_the_order_of_the_file(
    problems: Callable[..., tuple[Problem, ...]],
) -> None:
    told = problems(EVERYTHING_WRONG)

    places = [(problem.where, problem.what.split()[0].rstrip(":")) for problem in told]
    assert places == [
        ("run.yaml:1", "name"),
        ("run.yaml:3", "target.base_url"),
        ("run.yaml:4", "target.timeout_s"),
        ("run.yaml:5", "target.api_key_env"),
        ("run.yaml:7", "unknown"),
        ("run.yaml:8", "source.type"),
        ("run.yaml:9", "submit"),
        ("run.yaml:10", "unknown"),
        ("run.yaml:12", "poll.interval_s"),
        ("run.yaml:13", "poll.strategy"),
        ("run.yaml:15", "simulator.latency.type"),
        ("run.yaml:17", "simulator.faults.post.999"),
        ("run.yaml:19", "simulator.windows.flex"),
        ("run.yaml:20", "simulator.models.1"),
        ("run.yaml:22", "prices.input"),
    ]


def test_an_error_reads_as_one_line_with_place_path_and_advice(
    problems: Callable[..., tuple[Problem, ...]],
) -> None:
    told = problems(EVERYTHING_WRONG)

    assert all("\n" not in str(problem) for problem in told)
    assert str(told[4]) == "run.yaml:7: unknown key source.coutn (did you mean source.count?)"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("sumbit: {}", "did you mean submit?"),
        ("poll: {intervall: 3}", "did you mean poll.interval_s?"),
        ("submit: {retry: {max_attempt: 3}}", "did you mean submit.retry.max_attempts?"),
        ("concurrency: 5", "did you mean submit.concurrency or poll.concurrency or batch.concurrency?"),
        ("max_in_flight: 5", "did you mean submit.max_in_flight?"),
        ("simulator: {latency: {type: constant, men_s: 3, mean_s: 1}}", "simulator.latency.mean_s"),
        ("zzzqqq: 1", ""),
    ],
)
def test_an_unknown_key_comes_with_the_nearest_known_one(
    problems: Callable[..., tuple[Problem, ...]], text: str, hint: str
) -> None:
    (problem,) = problems(f"name: a\n{text}\n")

    assert problem.what.startswith("unknown key ")
    assert problem.where == "run.yaml:2"
    assert hint in problem.hint
    assert bool(hint) == bool(problem.hint)


def test_a_name_that_is_missing_is_told_even_where_there_is_much_else(
    problems: Callable[..., tuple[Problem, ...]],
) -> None:
    assert [p.what for p in problems("target: {}\n")] == ["name is required"]


def test_a_field_of_the_wrong_kind_of_latency_is_told_with_its_path(
    problems: Callable[..., tuple[Problem, ...]],
) -> None:
    told = problems("name: a\nsimulator:\n  latency: {type: uniform, min_s: 1, mean_s: 3}\n")

    assert {p.what for p in told} == {
        "simulator.latency.max_s is required",
        "unknown key simulator.latency.mean_s",
    }
    assert {p.where for p in told} == {"run.yaml:3"}


@pytest.mark.parametrize("latency", ["{mean_s: 3}", "{type: lognorml}"])
def test_the_kinds_of_latency_are_all_named_where_the_type_is_missing_or_wrong(
    problems: Callable[..., tuple[Problem, ...]], latency: str
) -> None:
    (problem,) = problems(f"name: a\nsimulator:\n  latency: {latency}\n")

    assert "simulator.latency.type" in problem.what
    for kind in ("constant", "exponential", "lognormal", "uniform", "bimodal"):
        assert kind in problem.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: {type: jsonl}", "source: type: jsonl needs path"),
        ("source: {path: x.jsonl}", "source: path goes with type: jsonl"),
        ("source: {type: jsonl, path: x, count: 3}", "--limit"),
        ("request: {stream: true}", "request: stream cannot be used"),
        ("request: {background: false}", "request: background must be true"),
        ("batch: {label: a b}", "batch.label: 'a b' does not fit"),
        ("target: {base_url: 'http://user:pass@host/v1'}", "must not hold a user name"),
        ("target: {base_url: 'http://host/v1?key=1'}", "must not hold a query"),
        ("target: {base_url: host/v1}", "http:// or https://"),
        ("target: {base_url: 'http://'}", "http:// or https://"),
        ("simulator: {faults: {get: {'500': 0.6, '502': 0.6}}}", "more than 1"),
        ("simulator: {latency: {type: uniform, min_s: 2, max_s: 1}}", "max_s must not be below min_s"),
    ],
)
def test_what_does_not_go_together_is_said_in_words(
    problems: Callable[..., tuple[Problem, ...]], text: str, said: str
) -> None:
    (problem,) = problems(f"name: a\n{text}\n")

    assert said in str(problem)
    assert problem.where == "run.yaml:2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("request: {stream: true}", "request: stream cannot be used: a batch is polled"),
        ("engine: {workers: 2}", "engine.workers (2) must be 1: mode: batch is worked on by one process"),
    ],
)
def test_what_does_not_go_with_batches_is_said_in_words(
    problems: Callable[..., tuple[Problem, ...]], text: str, said: str
) -> None:
    (problem,) = problems(f"name: a\ntarget: {{mode: batch}}\n{text}\n")

    assert said in str(problem)


def test_a_user_name_in_the_address_is_not_repeated(problems: Callable[..., tuple[Problem, ...]]) -> None:
    told = problems("name: a\ntarget: {base_url: 'http://me:hunter2@host/v1'}\n")

    assert "hunter2" not in "".join(map(str, told))


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("name: a\nname: b\n", "name", 2),
        ("name: a\nsubmit:\n  concurrency: 1\n  concurrency: 2\n", "submit.concurrency", 4),
        ("name: a\nrequest:\n  m:\n    - {k: 1, k: 2}\n", "request.m.0.k", 4),
        ("name: a\nsimulator: {faults: {post: {500: 0.5, '500': 0.1}}}\n", "simulator.faults.post.500", 2),
    ],
)
def test_a_key_that_is_given_twice_is_an_error_at_its_second_place(
    problems: Callable[..., tuple[Problem, ...]], text: str, path: str, line: int
) -> None:
    (problem,) = problems(text)

    assert (problem.what, problem.where) == (f"{path} is given twice", f"run.yaml:{line}")


@pytest.mark.parametrize(
    ("text", "where", "said"),
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
def test_what_is_not_a_config_at_all_is_one_problem_with_its_place(
    problems: Callable[..., tuple[Problem, ...]], text: bytes | str, where: str, said: str
) -> None:
    (problem,) = problems(text)

    assert problem.where in (where, f"{where}:1")
    assert said in problem.what


def test_a_mapping_that_contains_itself_is_one_problem(problems: Callable[..., tuple[Problem, ...]]) -> None:
    assert len(problems("name: a\nrequest: &r\n  self: *r\n")) == 1


@pytest.mark.parametrize("key", ["~", "1.5", "true", "2020-01-01"])
def test_a_key_that_is_not_a_word_is_told_with_its_line(
    problems: Callable[..., tuple[Problem, ...]], key: str
) -> None:
    (problem,) = problems(f"name: a\n{key}: 3\n")

    assert problem.where == "run.yaml:2"
    assert not problem.what.startswith(":")


def test_a_missing_file_and_a_directory_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: there is no such config file"):
        load(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path)


def test_a_variable_that_is_not_set_is_told_once_with_its_name_place_and_way_out(
    problems: Callable[..., tuple[Problem, ...]],
) -> None:
    (problem,) = problems("name: a\nrequest:\n  model: ${MODEL}\n")

    assert problem.what == "request.model needs the environment variable MODEL, which is not set"
    assert problem.where == "run.yaml:3"
    assert "${MODEL:-default}" in problem.hint


def test_a_variable_that_is_not_set_is_the_only_error_of_its_key(
    problems: Callable[..., tuple[Problem, ...]],
) -> None:
    told = problems("name: a\nsource:\n  count: ${ROWS}\nsubmit:\n  concurrency: 0\n")

    assert [problem.where for problem in told] == ["run.yaml:3", "run.yaml:5"]


def test_the_api_key_in_the_config_is_refused_without_repeating_it(
    problems: Callable[..., tuple[Problem, ...]],
) -> None:
    for text in ("${SAIL_API_KEY}", "sekret-123456", "Bearer sekret-123456"):
        (problem,) = problems(
            f"name: a\nrequest: {{metadata: {{k: '{text}'}}}}\n", environ={"SAIL_API_KEY": "sekret-123456"}
        )
        assert "sekret" not in str(problem)
        assert "target.api_key_env" in str(problem)


def test_the_api_key_is_found_under_whatever_variable_the_config_names(
    problems: Callable[..., tuple[Problem, ...]],
) -> None:
    told = problems(
        "name: a\ntarget: {api_key_env: MINE}\nrequest: {user: sekret-123456}\n",
        environ={"MINE": "sekret-123456"},
    )

    assert "MINE" in str(told[0])


@pytest.mark.parametrize("key", ['sek"ret-123456', "sek\\ret-123456", "sek/ret+123=456"])
def test_a_key_is_found_whatever_characters_it_has(read: Callable[..., RunConfig], key: str) -> None:
    with pytest.raises(RunnerError, match="API key itself"):
        read("name: a\nrequest: {user: '${SAIL_API_KEY}'}\n", environ={"SAIL_API_KEY": key})


@pytest.mark.parametrize(
    "text",
    [
        "name: '${SAIL_API_KEY} !'",
        "name: a\nsource: {count: '${SAIL_API_KEY}'}",
        "name: a\nsubmit: sekret-123456",
        "name: a\nsekret-123456: 1",
    ],
)
def test_the_api_key_appears_in_no_error_even_where_the_key_is_the_wrong_value(
    problems: Callable[..., tuple[Problem, ...]], text: str
) -> None:
    told = problems(f"{text}\n", environ={"SAIL_API_KEY": "sekret-123456"})

    assert "sekret-123456" not in "\n".join(map(str, told))


def test_a_message_does_not_show_all_of_a_long_value(problems: Callable[..., tuple[Problem, ...]]) -> None:
    (problem,) = problems(f"name: a\nsource: {{count: {'x' * 500}}}\n")

    assert len(str(problem)) < 200
