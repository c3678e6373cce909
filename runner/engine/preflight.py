"""What a command needs from around it before it sends anything: the key, open files, an address."""

from __future__ import annotations

import asyncio
import os
import resource
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from runner.commands.signals import Signals
from runner.config import EMBEDDED, RunConfig
from runner.errors import ConfigError, Interrupted, Problem

FILES_BESIDE_CONNECTIONS: Final = 64
"""Logs, the event loop, the input, a simulator's pipes, and some to spare."""


def read_key(config: RunConfig) -> str:
    """The API key from the environment. Raises `ConfigError` where it is not set; the simulator takes any."""
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


def allow_connections(config: RunConfig) -> None:
    """Raise the limit of open files to what the config needs. Raises `ConfigError` where it may not be."""
    needed = config.posts_at_once + config.poll.concurrency + FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):  # above the hard limit, or above what the system allows at all
        raise ConfigError(
            Problem(
                f"need {needed:,} open files, and this process may have {max(soft, hard):,}",
                "submit.concurrency and poll.concurrency",
                "lower them, or raise the hard limit (ulimit -Hn)",
            )
        ) from None


async def open_address(
    config: RunConfig, simulator_state: Path, signals: Signals, stack: AsyncExitStack
) -> str:
    """The address to send to; starts the simulator where that is it, until `stack` is closed.

    Raises `Interrupted` on a signal, `ConfigError` where the simulator does not start.
    """
    if config.target.base_url != EMBEDDED:
        return config.target.base_url
    from runner.simulator.embedded import Embedded

    simulator = Embedded(config.simulator, simulator_state)
    starting = asyncio.ensure_future(stack.enter_async_context(simulator))
    signals.hand_to(asyncio.get_running_loop(), lambda _: starting.cancel())
    if signals.received:
        starting.cancel()
    try:
        return (await starting).base_url
    except asyncio.CancelledError:
        raise Interrupted(signals.received[0]) from None
