"""What a config may say, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from runner.config import RunConfig, load


def test_a_name_is_all_that_a_config_needs(read: Callable[..., RunConfig]) -> None:
    config = read("name: tiny\n")

    assert config == RunConfig(name="tiny")
    assert config.target.base_url == "https://api.sailresearch.com/v1"
    assert config.submit.concurrency == 200


def test_the_defaults_are_those_of_the_contract(read: Callable[..., RunConfig]) -> None:
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


def test_a_batch_needs_no_background_and_whatever_is_said_of_it_is_no_error(
    read: Callable[..., RunConfig],
) -> None:
    for background in ("null", "false", "true"):
        request = f"{{model: m, background: {background}, stream: false}}"
        assert read(f"name: a\ntarget: {{mode: batch}}\nrequest: {request}\n").target.mode == "batch"


def test_settings_cannot_be_changed_after_validation(read: Callable[..., RunConfig]) -> None:
    config = read("name: tiny\n")

    with pytest.raises(ValidationError):
        config.submit.concurrency = 1


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(read: Callable[..., RunConfig]) -> None:
    assert read(b"\xef\xbb\xbfname: a\r\nsource:\r\n  count: 3\r\n").source.count == 3


def test_anchors_and_merge_keys_work_and_the_own_key_wins(read: Callable[..., RunConfig]) -> None:
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


def test_several_merge_keys_in_one_section_are_not_a_key_given_twice(read: Callable[..., RunConfig]) -> None:
    assert read("name: a\nrequest:\n  <<: {a: 1}\n  <<: {b: 2}\n").request == {"a": 1, "b": 2}


def test_a_key_that_yaml_reads_as_a_number_is_the_word(read: Callable[..., RunConfig]) -> None:
    assert read("name: a\nsimulator: {faults: {post: {500: 0.25}}}\n").simulator.faults.post == {"500": 0.25}


def test_a_trailing_slash_of_the_address_does_not_matter(read: Callable[..., RunConfig]) -> None:
    assert read("name: a\ntarget: {base_url: 'http://host:8000/v1/'}\n").target.base_url == (
        "http://host:8000/v1"
    )


def test_variables_are_taken_from_the_environment(read: Callable[..., RunConfig]) -> None:
    config = read(
        "name: ${WHO}\n"
        "request:\n  model: ${MODEL:-small}\n  user: a${WHO}b${NONE:-}c\n  user2: ${MODEL:-x y}\n",
        environ={"WHO": "me"},
    )

    assert config.name == "me"
    assert config.request == {"model": "small", "user": "amebc", "user2": "x y"}


def test_an_empty_variable_gives_way_to_the_default_as_in_a_shell(read: Callable[..., RunConfig]) -> None:
    assert read("name: ${WHO:-you}\n", environ={"WHO": ""}).name == "you"


def test_two_dollars_are_one_and_what_is_no_variable_stays(read: Callable[..., RunConfig]) -> None:
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


def test_a_value_that_is_one_whole_variable_can_be_a_number_or_a_truth(
    read: Callable[..., RunConfig],
) -> None:
    config = read(
        "name: a\nsource:\n  count: ${ROWS:-100}\npoll:\n  interval_s: ${WAIT}\n"
        "request:\n  flag: ${FLAG}\n  text: x${ROWS:-1}\n  list: '${LIST}'\n",
        environ={"WAIT": "0.5", "FLAG": "true", "LIST": "[1, 2]"},
    )

    assert config.source.count == 100
    assert config.poll.interval_s == 0.5
    assert config.request == {"flag": True, "text": "x1", "list": "[1, 2]"}


def test_variables_work_in_lists_and_in_overrides(read: Callable[..., RunConfig]) -> None:
    config = read(
        "name: a\nsimulator:\n  models: ['${M}', other]\n",
        ["source.count=${ROWS}"],
        {"M": "mine", "ROWS": "9"},
    )

    assert config.simulator.models == ("mine", "other")
    assert config.source.count == 9


def test_what_a_variable_brings_in_is_not_expanded_again(read: Callable[..., RunConfig]) -> None:
    assert read("name: a\nrequest: {p: '${P}'}\n", environ={"P": "${Q} $$"}).request == {"p": "${Q} $$"}


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_when_its_dollars_are_doubled(tmp_path: Path, text: Any) -> None:
    path = tmp_path / "any.yaml"
    content = yaml.safe_dump({"name": "a", "request": {"p": text.replace("$", "$$")}}, allow_unicode=True)
    path.write_text(content, encoding="utf-8")

    assert load(path, environ={}).request == {"p": text}


def test_the_resolved_config_is_a_config_that_says_the_same(read: Callable[..., RunConfig]) -> None:
    config = read("name: a\nsource: {count: 5}\nrequest: {model: m}\nprices: {input: 1.5}\n")

    assert read(yaml.safe_dump(config.model_dump(mode="json"))) == config
