"""Before anything is sent: the API key is read, and an address is known."""

from __future__ import annotations

import asyncio
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from runner.config import RunConfig
from runner.engine.preflight import open_base_url, read_key
from runner.errors import ConfigError


def config_of(**target: Any) -> RunConfig:
    return RunConfig.model_validate({"name": "t", "request": {"model": "m"}, "target": target})


def test_the_key_is_read_from_the_variable_that_the_config_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", " sk-123\n")
    assert read_key(config_of(api_key_env="MY_KEY")) == "sk-123"


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_key_that_is_not_set_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError) as caught:
        read_key(config_of(api_key_env="MY_KEY"))
    assert str(caught.value) == (
        "target.api_key_env: the environment variable MY_KEY with the API key is not set (export MY_KEY=…)"
    )


@pytest.mark.parametrize("value", ["schlüssel", "two\nlines", "tab\tinside"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError, match="the API key in MY_KEY has characters") as caught:
        read_key(config_of(api_key_env="MY_KEY"))
    assert value not in str(caught.value)


def test_the_embedded_simulator_needs_no_key_unless_it_checks_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAIL_API_KEY", raising=False)
    assert read_key(config_of(base_url="simulator")) == "simulator"
    checking = {"name": "t", "target": {"base_url": "simulator"}, "simulator": {"api_key_env": "SIM_KEY"}}
    with pytest.raises(ConfigError, match="SAIL_API_KEY"):
        read_key(RunConfig.model_validate(checking))


def test_the_address_is_that_of_the_config(tmp_path: Path) -> None:
    async def main() -> str:
        async with AsyncExitStack() as stack:
            return await open_base_url(config_of(base_url="http://here:1/v1"), tmp_path / "state", stack)

    assert asyncio.run(main()) == "http://here:1/v1"


def test_an_embedded_simulator_serves_until_its_stack_is_closed(tmp_path: Path) -> None:
    async def main() -> str:
        async with AsyncExitStack() as stack:
            base_url = await open_base_url(config_of(base_url="simulator"), tmp_path / "state", stack)
            stats = base_url.replace("/v1", "/simulator/stats")
            content = await asyncio.to_thread(lambda: urllib.request.urlopen(stats, timeout=10).read())
            assert b'"posts"' in content
        return stats

    stats = asyncio.run(main())
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(stats, timeout=10)
