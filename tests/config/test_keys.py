"""Keys that a section does not have: which key was probably meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import RunConfig
from runner.config.base import Section
from runner.config.keys import nearest, sections_at, selected, types_of
from runner.config.simulation import Lognormal, Uniform
from runner.config.source import JsonLinesSource, SyntheticSource
from runner.config.submit import Retry
from tests.config.reading import Problems

SOURCES: list[type[Section]] = [SyntheticSource, JsonLinesSource]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("sumbit: {}", "did you mean submit?"),
        ("poll: {intervall: 3}", "did you mean poll.interval_s?"),
        ("submit: {retry: {max_attempt: 3}}", "did you mean submit.retry.max_attempts?"),
        ("concurrency: 5", "did you mean submit.concurrency or poll.concurrency or batch.concurrency?"),
        ("max_in_flight: 5", "did you mean submit.max_in_flight?"),
        ("simulator: {latency: {type: constant, men_s: 3, mean_s: 1}}", "simulator.latency.mean_s"),
        ("temperatur: 1", ""),
        ("temperature: 1", "did you mean request.temperature?"),
        ("source: {type: jsonl, path: x, pth: y}", "did you mean source.path?"),
        ("source: {pth: y}", "did you mean source.path?"),
        ("source: {coutn: 3}", "did you mean source.count?"),
        ("zzzqqq: 1", ""),
    ],
)
def test_an_unknown_key_is_reported_with_the_nearest_known_key(
    problems: Problems, text: str, hint: str
) -> None:
    (problem,) = problems(f"name: a\n{text}\n")

    assert problem.what.startswith("unknown key ")
    assert problem.where == "run.yaml:2"
    assert hint in problem.hint
    assert bool(hint) == bool(problem.hint)


@pytest.mark.parametrize(
    ("path", "sections"),
    [
        ((), [RunConfig]),
        (("submit", "retry"), [Retry]),
        (("source",), SOURCES),
        (("request",), []),
        (("nowhere", "at", "all"), []),
    ],
)
def test_the_sections_at_a_path_are_one_or_none_or_the_types_of_a_union(
    path: tuple[str, ...], sections: list[type[Section]]
) -> None:
    assert sections_at(RunConfig, path) == sections


def test_the_types_of_a_union_are_listed_in_its_order() -> None:
    assert types_of(sections_at(RunConfig, ("source",))) == ["synthetic", "jsonl"]
    assert types_of(sections_at(RunConfig, ("submit",))) == []


@pytest.mark.parametrize(
    ("path", "data", "section"),
    [
        ("source", {"type": "jsonl"}, JsonLinesSource),
        ("source", {"type": "synthetic"}, SyntheticSource),
        ("source", {}, SyntheticSource),
        ("source", 5, SyntheticSource),
        ("source", {"type": "csv"}, None),
        ("source", {"type": ["jsonl"]}, None),
    ],
)
def test_the_type_in_the_data_selects_a_member_of_the_union(
    path: str, data: object, section: type[Section] | None
) -> None:
    assert selected(sections_at(RunConfig, (path,)), data) is section


def test_a_union_without_a_default_selects_nothing_where_the_type_is_missing() -> None:
    latencies = sections_at(RunConfig, ("simulator", "latency"))

    assert selected(latencies, {}) is None
    assert selected(latencies, {"type": "uniform"}) is Uniform
    assert Lognormal in latencies


@given(key=st.text(max_size=12))
def test_the_nearest_key_is_always_a_key_that_the_config_has(key: str) -> None:
    for path in (nearest((key,), RunConfig, [RunConfig]) or "").split(" or "):
        *above, last = path.split(".")
        sections = sections_at(RunConfig, tuple(above))
        assert not path or above == ["request"] or any(last in section.model_fields for section in sections)
