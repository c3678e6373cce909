"""The `source` section: a union by `type`, each with its own keys."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runner.config import RunConfig
from runner.config.explain import Origin, explain
from runner.config.source import JsonLinesSource, SyntheticSource
from tests.config.reading import Problems, Read


@pytest.mark.parametrize(
    "text", ["", "source:", "source: {}", "source: {count: null}", "source: {type: synthetic}"]
)
def test_a_source_is_synthetic_unless_it_has_another_type(read: Read, text: str) -> None:
    assert read(f"name: a\n{text}\n").source == SyntheticSource()


def test_each_type_has_only_its_own_keys(read: Read) -> None:
    config = read("name: a\nsource: {type: jsonl, path: rows.jsonl, prompt: '{{ q }}'}\n")

    assert config.source == JsonLinesSource(type="jsonl", path="rows.jsonl", prompt="{{ q }}")
    assert set(config.source.model_dump()) == {"type", "path", "prompt", "custom_id"}
    assert set(SyntheticSource().model_dump()) == {"type", "count", "prompt", "custom_id"}


OLD_SOURCES = (
    "{type: synthetic, count: 20, path: null, prompt: null, custom_id: null}",
    "{type: synthetic, count: null, path: null, prompt: '{{ i }}', custom_id: 'a-{{ i }}'}",
    "{type: jsonl, count: null, path: rows.jsonl, prompt: null, custom_id: null}",
)


@pytest.mark.parametrize("source", OLD_SOURCES)
def test_the_resolved_config_of_an_earlier_version_is_still_valid(source: str) -> None:
    old = {"name": "a", "source": yaml.safe_load(source)}

    config = RunConfig.model_validate(old)

    kept = {key: value for key, value in old["source"].items() if key in config.source.model_dump()}
    assert config.source.model_dump() == kept
    assert not any(value for key, value in old["source"].items() if key not in kept)


@pytest.mark.parametrize(
    "text", ["{count: 7, prompt: '{{ i }}'}", "{type: jsonl, path: x, custom_id: '{{ i }}'}"]
)
def test_the_resolved_source_loads_as_the_same_source(read: Read, text: str) -> None:
    config = read(f"name: a\nsource: {text}\n")

    assert read(yaml.safe_dump(config.model_dump(mode="json"))) == config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_overrides_can_change_the_type_and_clear_a_key_of_the_old_one(read: Read) -> None:
    config = read(
        "name: a\nsource: {count: 5}\n", ["source.type=jsonl", "source.path=rows.jsonl", "source.count=null"]
    )

    assert config.source == JsonLinesSource(type="jsonl", path="rows.jsonl")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("path: x.jsonl", 3, "source.path goes with type: jsonl, not with type: synthetic"),
        ("path: x.jsonl\n  count: 3", 3, "source.path goes with type: jsonl, not with type: synthetic"),
        (
            "type: jsonl\n  path: x\n  count: 3",
            5,
            "source.count goes with type: synthetic, not with type: jsonl (to send fewer rows, use --limit)",
        ),
        ("type: jsonl", 2, "source.path is required with type: jsonl (a file, or a glob for several)"),
        ("type: jsonl\n  path: null", 4, "source.path is required with type: jsonl"),
        ("prompt: x\n  type: csv", 4, "source.type: 'csv' is not supported (one of synthetic, jsonl)"),
        ("prompt: x\n  type: null", 4, "source.type: null is not supported (one of synthetic, jsonl)"),
        (
            "prompt: x\n  type: [jsonl]",
            4,
            "source.type: ['jsonl'] is not supported (one of synthetic, jsonl)",
        ),
        ("pth: null", 3, "unknown key source.pth (did you mean source.path?)"),
        ("count: 0", 3, "source.count: must be at least 1, not 0"),
        ("count: 1.5", 3, "source.count: must be a whole number, not 1.5"),
        ("type: jsonl\n  path: 3", 4, "source.path: must be text, not 3"),
    ],
)
def test_a_wrong_source_is_reported_at_its_line_in_words(
    problems: Problems, text: str, where: int, message: str
) -> None:
    (problem,) = problems(f"name: a\nsource:\n  {text}\n")

    assert str(problem).startswith(f"run.yaml:{where}: {message}")


def test_unknown_keys_are_reported_beside_an_unknown_type(problems: Problems) -> None:
    found = problems("name: a\nsource:\n  type: csv\n  delimiter: ;\n  path: rows.csv\n")

    assert [problem.what for problem in found] == [
        "source.type: 'csv' is not supported",
        "unknown key source.delimiter",
    ]


def test_a_source_that_is_no_section_is_one_problem(problems: Problems) -> None:
    (problem,) = problems("name: a\nsource: rows.jsonl\n")

    assert problem.what == "source must be a section with keys of its own, not 'rows.jsonl'"


@given(
    section=st.dictionaries(
        st.sampled_from(["type", "count", "path", "prompt", "custom_id", "other"]),
        st.sampled_from([None, 1, 0, "x", "jsonl", "synthetic", True, ["jsonl"], {}]),
    )
)
def test_any_source_is_valid_or_explained(section: dict[str, object]) -> None:

    data = {"name": "a", "source": section}
    try:
        RunConfig.model_validate(data)
    except ValidationError as error:
        problems = explain(error, data, Origin("run.yaml"), RunConfig)
        assert problems
        assert all("source" in problem.what for problem in problems)
