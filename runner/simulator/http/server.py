"""The HTTP server: binds a port and serves until it is stopped. Entry point of `runner simulate`."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from runner.config.simulation import Simulator
from runner.errors import ConfigError, Problem
from runner.simulator.api.api import Api
from runner.simulator.http.connection import Connections
from runner.simulator.service.ledger import Ledger
from runner.simulator.service.service import Service

READY: Final = "simulator listening on "
"""Start of the line that `serve_forever` prints; the base URL follows."""
_BACKLOG: Final = 4096


@asynccontextmanager
async def serving(
    settings: Simulator, host: str = "127.0.0.1", port: int = 0, state_path: Path | None = None
) -> AsyncIterator[str]:
    """Serve on the running loop for the length of the block; yields the base URL. Raises ConfigError."""
    api_key = _api_key(settings)
    ledger = None if state_path is None else Ledger(state_path)
    try:
        connections = Connections(Api(settings, Service(settings, time.time, ledger), api_key))
        server = await _bind(connections, host, port)
        bound = server.sockets[0].getsockname()[1]
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{bound}/v1"
        finally:
            server.close()
            connections.close()
            await server.wait_closed()
    finally:
        if ledger is not None:
            ledger.close()


async def serve(
    settings: Simulator,
    host: str,
    port: int,
    state_path: Path | None = None,
    *,
    on_ready: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set; `on_ready` is called with the base URL once the port is bound."""
    async with serving(settings, host, port, state_path) as base_url:
        on_ready(base_url)
        await stop.wait()


def serve_forever(
    settings: Simulator, host: str, port: int, state_path: Path | None, parent_pipe: bool
) -> int:
    """Serve until SIGINT or SIGTERM or, with `parent_pipe`, until stdin ends; return the exit code.

    Prints one line to stdout once the port is bound. Raises ConfigError if it cannot start.
    """

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop.set)
        if parent_pipe:
            _stop_with_parent(loop, stop)
        _tune_collector()
        await serve(settings, host, port, state_path, on_ready=_announce, stop=stop)

    uvloop.run(main())
    return 0


def _announce(base_url: str) -> None:
    sys.stdout.write(f"{READY}{base_url}\n")
    sys.stdout.flush()


def _stop_with_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def wait_for_end() -> None:
        # os.read instead of sys.stdin: a daemon thread inside sys.stdin would hold its lock at exit.
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, name="parent-pipe", daemon=True).start()


def _tune_collector() -> None:
    # Jobs are not tracked, because they are in no cycles: little is left to collect, so scans can be rare.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _api_key(settings: Simulator) -> str | None:
    name = settings.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        hint = "export it, or remove simulator.api_key_env to accept any key"
        raise ConfigError(
            Problem(f"the environment variable {name} is not set", "simulator.api_key_env", hint)
        )
    return key


async def _bind(connections: Connections, host: str, port: int) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(connections.connection, host, port, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        where = f"{host}:{port}"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            hint = "choose another port, or 0 for any free one"
            raise ConfigError(Problem("the port is in use", where, hint)) from None
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(Problem(f"cannot listen: {reason}", where)) from None
