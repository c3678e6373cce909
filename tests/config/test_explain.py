"""Everything that can be wrong with a config, reported with its file, line, path and a remedy."""

from __future__ import annotations

import pytest

from tests.config.reading import Problems

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


def test_all_errors_are_reported_at_once_in_the_order_of_the_file(
    problems: Problems,
) -> None:
    found = problems(EVERYTHING_WRONG)

    places = [(problem.where, problem.what.split()[0].rstrip(":")) for problem in found]
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


def test_an_error_is_one_line_with_place_path_and_advice(
    problems: Problems,
) -> None:
    found = problems(EVERYTHING_WRONG)

    assert all("\n" not in str(problem) for problem in found)
    assert str(found[4]) == "run.yaml:7: unknown key source.coutn (did you mean source.count?)"


def test_a_missing_name_is_reported_beside_other_sections(
    problems: Problems,
) -> None:
    assert [p.what for p in problems("target: {}\n")] == ["name is required"]


def test_a_key_of_another_type_of_latency_is_reported_with_its_types(
    problems: Problems,
) -> None:
    found = problems("name: a\nsimulator:\n  latency: {type: uniform, min_s: 1, mean_s: 3}\n")

    assert {p.what for p in found} == {
        "simulator.latency.max_s is required with type: uniform",
        "simulator.latency.mean_s goes with type: constant, exponential or lognormal, not with type: uniform",
    }
    assert {p.where for p in found} == {"run.yaml:3"}


@pytest.mark.parametrize("latency", ["{mean_s: 3}", "{type: lognorml}"])
def test_all_types_of_latency_are_named_if_the_type_is_missing_or_wrong(
    problems: Problems, latency: str
) -> None:
    (problem,) = problems(f"name: a\nsimulator:\n  latency: {latency}\n")

    assert "simulator.latency.type" in problem.what
    for kind in ("constant", "exponential", "lognormal", "uniform", "bimodal"):
        assert kind in problem.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: {type: jsonl}", "source.path is required with type: jsonl (a file"),
        ("source: {path: x.jsonl}", "source.path goes with type: jsonl, not with type: synthetic"),
        ("source: {type: jsonl, path: x, count: 3}", "--limit"),
        ("request: {stream: true}", "request: stream cannot be used"),
        ("request: {background: false}", "request: background must be true"),
        ("batch: {label: a b}", "batch.label: 'a b' is not allowed; it may contain letters, digits, _ -"),
        ("target: {base_url: 'http://user:pass@host/v1'}", "must not contain a user name"),
        ("target: {base_url: 'http://host/v1?key=1'}", "must not contain a query"),
        ("target: {base_url: host/v1}", "http:// or https://"),
        ("target: {base_url: 'http://'}", "http:// or https://"),
        ("simulator: {faults: {get: {'500': 0.6, '502': 0.6}}}", "more than 1"),
        ("simulator: {latency: {type: uniform, min_s: 2, max_s: 1}}", "max_s must not be below min_s"),
    ],
)
def test_values_that_contradict_each_other_are_reported_in_words(
    problems: Problems, text: str, message: str
) -> None:
    (problem,) = problems(f"name: a\n{text}\n")

    assert message in str(problem)
    assert problem.where == "run.yaml:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("request: {stream: true}", "request: stream cannot be used: a batch is polled"),
        ("engine: {workers: 2}", "engine.workers (2) must be 1: target.mode: batch runs in one process"),
    ],
)
def test_values_that_contradict_batch_mode_are_reported_in_words(
    problems: Problems, text: str, message: str
) -> None:
    (problem,) = problems(f"name: a\ntarget: {{mode: batch}}\n{text}\n")

    assert message in str(problem)


def test_a_password_in_the_base_url_is_not_repeated(problems: Problems) -> None:
    found = problems("name: a\ntarget: {base_url: 'http://me:hunter2@host/v1'}\n")

    assert "hunter2" not in "".join(map(str, found))


def test_a_long_value_is_shortened_in_a_message(problems: Problems) -> None:
    (problem,) = problems(f"name: a\nsource: {{count: {'x' * 500}}}\n")

    assert len(str(problem)) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: a b",
            "name: 'a b' is not allowed; it may contain letters, digits, . _ - and must begin with",
        ),
        (f"name: {'a' * 129}", "name: must have at most 128 characters, not 'aaa"),
        ("name: 5", "name: must be text, not 5"),
        ("submit: {concurrency: 0}", "submit.concurrency: must be at least 1, not 0"),
        ("submit: {concurrency: many}", "submit.concurrency: must be a whole number, not 'many'"),
        ("submit: {concurrency: true}", "submit.concurrency: must be a whole number, not true"),
        ("submit: {concurrency: null}", "submit.concurrency: must be a whole number, not null"),
        ("poll: {interval_s: soon}", "poll.interval_s: must be a number, not 'soon'"),
        ("poll: {interval_s: .inf}", "poll.interval_s: must be a finite number, not inf"),
        ("poll: {max_rate: 0}", "poll.max_rate: must be more than 0, not 0"),
        ("poll: {lag_target: 1.5}", "poll.lag_target: must be at most 1, not 1.5"),
        ("poll: {strategy: fast}", "poll.strategy: must be 'adaptive', 'exponential' or 'fixed', not 'fast'"),
        ("simulator: {models: m}", "simulator.models: must be a list, not 'm'"),
        ("simulator: {idempotency: 7}", "simulator.idempotency: must be true or false, not 7"),
        ("simulator: {windows: [a]}", "simulator.windows: must be a mapping, not ['a']"),
        ("request: x", "request: must be a mapping, not 'x'"),
        ("submit: 5", "submit must be a section with keys of its own, not 5"),
        ("target: {api_key_env: 1a}", "target.api_key_env: '1a' is not allowed; it may contain letters"),
        (
            "target: {idempotency_header: a b}",
            "target.idempotency_header: 'a b' is not allowed; it may contain",
        ),
    ],
    ids=lambda text: text[:30],
)
def test_a_wrong_value_is_reported_with_what_it_must_be(problems: Problems, text: str, message: str) -> None:
    (problem,) = problems(text if text.startswith("name") else f"name: a\n{text}\n")

    assert str(problem).partition(": ")[2].startswith(message)
