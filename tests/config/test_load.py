"""What a config may say, and the `RunConfig` that it becomes."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from runner.config import RunConfig
from tests.config.reading import Read


def test_a_name_is_all_that_a_config_needs(read: Read) -> None:
    config = read("name: tiny\n")

    assert config == RunConfig(name="tiny")
    assert config.target.base_url == "https://api.sailresearch.com/v1"
    assert config.submit.concurrency == 200


def test_the_defaults_are_those_of_the_contract(read: Read) -> None:
    config = read("name: tiny\n")

    assert config.target.api_key_env == "SAIL_API_KEY"
    assert config.target.transport == "aiohttp"
    assert config.target.timeout_s == 30
    assert config.target.idempotency_header == "Idempotency-Key"
    assert config.submit.max_in_flight == 20_000
    assert config.submit.retry.model_dump() == {"max_attempts": 8, "base_s": 0.5, "cap_s": 60}
    assert (config.poll.concurrency, config.poll.strategy, config.poll.interval_s) == (200, "adaptive", 1.0)
    assert (config.poll.factor, config.poll.max_interval_s, config.poll.max_rate) == (1.5, 30, None)
    assert (config.poll.deadline_s, config.poll.lag_target) == (86_400, 0.05)
    assert config.sink.model_dump() == {
        "dir": "runs",
        "on_existing": "resume",
        "fsync_s": 1.0,
        "store": "full",
    }
    assert config.limits.drain_s == 30
    assert config.target.mode == "background"
    assert config.batch.model_dump() == {
        "max_requests": 100_000,
        "max_bytes": 256_000_000,
        "concurrency": 2,
        "max_open": 8,
        "label": None,
        "timeout_s": 600,
    }


def test_any_value_of_background_is_accepted_in_batch_mode(
    read: Read,
) -> None:
    for background in ("null", "false", "true"):
        request = f"{{model: m, background: {background}, stream: false}}"
        assert read(f"name: a\ntarget: {{mode: batch}}\nrequest: {request}\n").target.mode == "batch"


def test_settings_cannot_be_changed_after_validation(read: Read) -> None:
    config = read("name: tiny\n")

    with pytest.raises(ValidationError):
        config.submit.concurrency = 1  # type: ignore[misc]  # what a user of the class must not do


def test_a_trailing_slash_of_the_base_url_does_not_matter(read: Read) -> None:
    assert read("name: a\ntarget: {base_url: 'http://host:8000/v1/'}\n").target.base_url == (
        "http://host:8000/v1"
    )


def test_the_resolved_config_loads_as_the_same_config(read: Read) -> None:
    config = read("name: a\nsource: {count: 5}\nrequest: {model: m}\nprices: {input: 1.5}\n")

    assert read(yaml.safe_dump(config.model_dump(mode="json"))) == config
