"""A worker that is a real `WorkerSession`, on the event loop of the test and over a socket pair."""

from __future__ import annotations

import asyncio
import socket

from runner.config import RunConfig
from runner.engine.messages import Channel, Command, Event, Setup
from runner.engine.worker import WorkerSession, ended
from runner.errors import RunnerError
from runner.measure.meter import Meter
from runner.session.clock import Clock
from runner.source import Source
from runner.transport import Transport

UNIX = 1_000_000.0
"""Unix time at the beginning of virtual time."""


def loop_clock() -> Clock:
    """Return a clock that shows the time of the event loop."""
    loop = asyncio.get_running_loop()
    return Clock(loop.time, lambda: UNIX + loop.time())


class SessionWorker:
    """A `Worker` that does what a worker process does, without being one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._channel: Channel[Event] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        self._channel = await Channel.open(ours, Event)
        self._task = asyncio.create_task(serve(theirs, self._transport))

    def tell(self, command: Command) -> None:
        assert self._channel is not None
        self._channel.send(command)

    async def hear(self) -> Event | None:
        assert self._channel is not None
        return await self._channel.receive()

    async def exit_reason(self) -> str:
        return "exit code 0"

    async def close(self) -> None:
        assert self._channel is not None
        assert self._task is not None
        await self._channel.close()
        await self._task

    def kill(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def serve(end: socket.socket, transport: Transport) -> None:
    """Work as `runner.commands.worker` does, until the coordinator ends it, or is gone."""
    channel: Channel[Command] = await Channel.open(end, Command)
    setup = await channel.receive()
    assert isinstance(setup, Setup)
    config = RunConfig.model_validate_json(setup.config)
    try:
        await WorkerSession(setup, config, Source(config), Meter(), transport, channel, loop_clock()).run()
    except RunnerError as error:
        channel.send(ended(error))
    finally:
        await channel.close()
