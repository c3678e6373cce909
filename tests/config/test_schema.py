"""The JSON Schema of the config, which editors complete and check with."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from runner.config import RunConfig
from runner.config.base import PATTERN_WORDS
from tests.config.reading import Read

SECTIONS = (
    "name", "target", "request", "source", "submit", "poll", "batch", "sink", "limits", "prices", "simulator",
)  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Return the schema as an editor reads it."""
    schema: dict[str, Any] = json.loads(json.dumps(RunConfig.model_json_schema()))
    return schema


def test_the_schema_is_valid_and_has_every_section(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)

    assert set(SECTIONS) <= set(schema["properties"])
    assert schema["required"] == ["name"]


def test_the_schema_refuses_unknown_keys_in_every_section(schema: dict[str, Any]) -> None:
    objects = [d for d in schema["$defs"].values() if d.get("type") == "object"]

    assert objects
    assert all(d["additionalProperties"] is False for d in [schema, *objects])


def test_keys_have_descriptions_in_the_schema(schema: dict[str, Any]) -> None:
    assert "never the key" in schema["$defs"]["Target"]["properties"]["api_key_env"]["description"]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("name: a", True),
        ("name: a\nsimulator: {latency: {type: uniform, min_s: 1, max_s: 2}, outcomes: {failed: 0.1}}", True),
        ("name: a\nprices: {input: 0.40, cached: 0.08, output: 1.80}\npoll: {max_rate: null}", True),
        ("name: a\ntarget: {mode: batch}\nbatch: {max_requests: 500, label: nightly, max_open: 2}", True),
        ("name: a\nsource: {count: 5}", True),
        ("name: a\nsource: {type: synthetic, count: 5}", True),
        ("name: a\nsource: {type: jsonl, path: rows.jsonl, prompt: hello}", True),
        ("name: a\nsource: {type: jsonl}", False),
        ("name: a\nsource: {path: rows.jsonl}", False),
        ("name: a\nsource: {type: csv, path: rows.csv}", False),
        ("name: a\nbatch: {label: a b}", False),
        ("name: a\nsubmit: {concurency: 3}", False),
        ("name: a\nsubmit: {concurrency: 0}", False),
        ("name: a\npoll: {strategy: clever}", False),
        ("target: {}", False),
    ],
)
def test_the_schema_and_the_loader_agree(schema: dict[str, Any], read: Read, text: str, good: bool) -> None:
    assert Draft202012Validator(schema).is_valid(yaml.safe_load(text)) is good
    if good:
        assert read(text)


def test_every_pattern_has_words_for_the_error_message(schema: dict[str, Any]) -> None:
    patterns = set(re.findall(r'"pattern": ("[^"]*")', json.dumps(schema)))

    assert patterns
    assert {json.loads(pattern) for pattern in patterns} == set(PATTERN_WORDS)


def test_every_key_has_a_description_in_the_schema(schema: dict[str, Any]) -> None:
    sections = [schema, *(part for part in schema["$defs"].values() if "properties" in part)]
    for section in sections:
        for name, key in section["properties"].items():
            described = schema["$defs"][key["$ref"].rpartition("/")[2]] if "$ref" in key else key
            assert described.get("description") or "const" in key, f"{section['title']}.{name}"
