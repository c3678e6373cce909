"""The JSON Schema of the config: what editors complete and check with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from runner.config import RunConfig

SECTIONS = (
    "name", "target", "request", "source", "submit", "poll", "batch", "sink", "limits", "prices", "simulator",
)  # fmt: skip


@pytest.fixture(scope="module")
def schema():
    return json.loads(json.dumps(RunConfig.model_json_schema()))


def test_the_schema_is_one_and_has_every_section(schema: Any) -> None:
    Draft202012Validator.check_schema(schema)

    assert set(SECTIONS) <= set(schema["properties"])
    assert schema["required"] == ["name"]


def test_every_section_refuses_unknown_keys_in_the_editor_too(schema: Any) -> None:
    objects = [d for d in schema["$defs"].values() if d.get("type") == "object"]

    assert objects
    assert all(d["additionalProperties"] is False for d in [schema, *objects])


def test_settings_say_in_the_schema_what_they_are(schema: Any) -> None:
    assert "never the key" in schema["$defs"]["Target"]["properties"]["api_key_env"]["description"]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("name: a", True),
        ("name: a\nsimulator: {latency: {type: uniform, min_s: 1, max_s: 2}, outcomes: {failed: 0.1}}", True),
        ("name: a\nprices: {input: 0.40, cached: 0.08, output: 1.80}\npoll: {max_rate: null}", True),
        ("name: a\ntarget: {mode: batch}\nbatch: {max_requests: 500, label: nightly, max_open: 2}", True),
        ("name: a\nbatch: {label: a b}", False),
        ("name: a\nsubmit: {concurency: 3}", False),
        ("name: a\nsubmit: {concurrency: 0}", False),
        ("name: a\npoll: {strategy: clever}", False),
        ("target: {}", False),
    ],
)
def test_the_schema_and_the_loader_agree(
    schema: Any, read: Callable[..., RunConfig], text: str, good: bool
) -> None:
    assert Draft202012Validator(schema).is_valid(yaml.safe_load(text)) is good
    if good:
        assert read(text)
