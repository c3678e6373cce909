"""The main function of a worker process: it runs a session as commanded, or reports what prevents that."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from runner.commands import worker as worker_module
from runner.commands.signals import SIGNALS
from runner.engine.leases import share
from runner.engine.messages import Channel, Drain, Event, Grant, Setup, Stop, WorkerEnded, error_of
from runner.errors import ConfigError
from tests.commands.here import Here


def setup_of(here: Here) -> Setup:
    config = share(here.config(engine={"workers": 2}), 1)
    here.run_dir.path.mkdir(parents=True)
    return Setup(
        config=config.model_dump_json().encode(),
        run_dir=str(here.run_dir.path),
        worker=1,
        run_id="run-1",
        base_url="http://service/v1",
        session=0,
        resumes=False,
        is_confirmed=True,
        restarts=[],
        began=None,
    )


def converse(*commands: Any, ends: bool = False) -> list[Event]:
    """Run the main function in this process; return all that it sends."""
    ours, theirs = socket.socketpair()
    heard: list[Event] = []

    async def main() -> None:
        channel: Channel[Event] = await Channel.open(ours, Event)
        for command in commands:
            channel.send(command)
        serving = asyncio.create_task(worker_module._serve(theirs))
        if ends:
            await channel.close()
        while (event := await channel.receive()) is not None:
            heard.append(event)
        await serving
        await channel.close()

    asyncio.run(main())
    return heard


@pytest.fixture
def quick(here: Here) -> Here:
    here.monkeypatch.setattr(worker_module, "open_transport", lambda *_: here.fake)
    return here


def test_it_runs_a_session_with_its_share_of_the_config(quick: Here) -> None:
    heard = converse(setup_of(quick), Grant([3, 4]), Drain(), Stop(forced=False))

    assert heard[-1] == WorkerEnded()
    assert quick.run_dir.files(1).journal.exists()
    assert quick.fake.is_closed


def test_what_prevents_it_is_reported(quick: Here) -> None:
    setup = setup_of(quick)
    quick.monkeypatch.delenv("SAIL_API_KEY")
    (end,) = converse(setup)

    assert isinstance(end, WorkerEnded)
    assert isinstance(error_of(end), ConfigError)
    assert "SAIL_API_KEY" in str(error_of(end))


def test_without_a_setup_it_does_nothing() -> None:
    assert converse(Drain()) == []
    assert converse(ends=True) == []


def test_signals_are_left_to_the_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def run(main: Coroutine[Any, Any, None]) -> None:
        main.close()
        seen.extend(signal.getsignal(signum) for signum in SIGNALS)

    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    monkeypatch.setattr("runner.commands.worker.uvloop.run", run)
    monkeypatch.setattr("runner.commands.worker.socket.socket", lambda fileno: fileno)
    try:
        worker_module.main(0)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert seen == [signal.SIG_IGN] * 2
