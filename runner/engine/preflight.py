"""Prepares a run before anything is sent: the API key, and the address of the service."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path

from runner.config import EMBEDDED, RunConfig
from runner.errors import ConfigError, Problem


def read_key(config: RunConfig) -> str:
    """Return the API key from the environment, or any text for a simulator that checks no key.

    Raises `ConfigError` if the key is not set or cannot be sent.
    """
    name = config.target.api_key_env
    key = os.environ.get(name, "").strip()
    if config.target.base_url == EMBEDDED and config.simulator.api_key_env is None:
        return EMBEDDED
    if not key:
        raise ConfigError(
            Problem(
                f"the environment variable {name} with the API key is not set",
                "target.api_key_env",
                f"export {name}=…",
            )
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(Problem(f"the API key in {name} has characters that no header can carry"))
    return key


async def open_base_url(config: RunConfig, simulator_state: Path, stack: AsyncExitStack) -> str:
    """Return the base URL; if it is the embedded simulator, start that, to serve until `stack` closes.

    Raises `ConfigError` if the simulator does not start.
    """
    if config.target.base_url != EMBEDDED:
        return config.target.base_url
    from runner.simulator.embedded import Embedded

    simulator = Embedded(config.simulator, simulator_state)
    return (await stack.enter_async_context(simulator)).base_url
