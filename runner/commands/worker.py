"""A worker process of a run, started by its coordinator: `main(FD)`, FD being its end of a socket pair.

It ends when the other end does.
"""

from __future__ import annotations

import signal
import socket

import uvloop

from runner.commands.host import raise_open_file_limit, tune_gc
from runner.commands.signals import SIGNALS
from runner.config import RunConfig
from runner.engine.messages import Channel, Command, Setup
from runner.engine.preflight import read_key
from runner.engine.worker import WorkerSession, ended
from runner.errors import RunnerError
from runner.measure.meter import Meter
from runner.session.clock import Clock
from runner.source import Source
from runner.transport import open_transport


def main(fd: int) -> None:
    """Work until the coordinator ends this worker, or is gone."""
    for signum in SIGNALS:  # they are for the coordinator, which then commands its workers
        signal.signal(signum, signal.SIG_IGN)
    uvloop.run(_serve(socket.socket(fileno=fd)))


async def _serve(end: socket.socket) -> None:
    channel: Channel[Command] = await Channel.open(end, Command)
    try:
        setup = await channel.receive()
        if isinstance(setup, Setup):
            await _work(setup, channel)
    except RunnerError as error:
        channel.send(ended(error))
    finally:
        await channel.close()


async def _work(setup: Setup, channel: Channel[Command]) -> None:
    config = RunConfig.model_validate_json(setup.config)
    raise_open_file_limit(config)
    meter = Meter()
    transport = open_transport(config, setup.base_url, read_key(config), meter.wire)
    source = Source(config)
    tune_gc()
    await WorkerSession(setup, config, source, meter, transport, channel, Clock()).run()
