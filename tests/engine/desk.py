"""The desk of a coordinator with one worker: tests command it, and see what it reports, in virtual time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from runner.engine.leases import share
from runner.engine.messages import Channel, Command, Event, Report, Setup
from runner.store import Recovery, RunDir, ignore, recover
from runner.store.journal import read_journal
from runner.transport.fake import Fake
from tests import virtual_time
from tests.engine.coordinating import make_config
from tests.engine.session_worker import serve

SomeEvent = TypeVar("SomeEvent", bound=Event)
RUN_ID = "run-1"


class Desk:
    """The coordinator's end of one worker, number 1 of a run of 1000 rows."""

    def __init__(self, path: Path, channel: Channel[Event], **sections: Any) -> None:
        self.run_dir = RunDir(path)
        self.config = share(make_config(1000, workers=2, **sections), 1)
        self._channel = channel
        self.events: list[tuple[float, Event]] = []
        """All events so far, with the times at which they came."""
        self._news = asyncio.Event()

    def tell(self, *commands: Command) -> None:
        for command in commands:
            self._channel.send(command)

    def set_up(self, *, is_confirmed: bool = True, resumes: bool = False) -> None:
        """Send the first command."""
        self.tell(
            Setup(
                config=self.config.model_dump_json().encode(),
                run_dir=str(self.run_dir.path),
                worker=1,
                run_id=RUN_ID,
                base_url="http://service/v1",
                session=3,
                resumes=resumes,
                is_confirmed=is_confirmed,
                restarts=[],
                began=None,
            )
        )

    async def listen(self) -> None:
        while (event := await self._channel.receive()) is not None:
            self.events.append((asyncio.get_running_loop().time(), event))
            self._news.set()

    async def until(self, kind: type[SomeEvent], count: int = 1) -> SomeEvent:
        """Return the event of that kind and number, from 1, as soon as it has come."""
        while len(self.got(kind)) < count:
            self._news.clear()
            await self._news.wait()
        return self.got(kind)[count - 1]

    async def until_finished(self, count: int) -> Report:
        """Return the first report of that many finished rows."""
        number = 1
        while (report := await self.until(Report, number)).in_flight.finished < count:
            number += 1
        return report

    def got(self, kind: type[SomeEvent]) -> list[SomeEvent]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def got_at(self, kind: type[Event]) -> list[float]:
        return [at_mono for at_mono, event in self.events if isinstance(event, kind)]

    def recovery(self) -> Recovery:
        """Return what the files of the run show."""
        return recover(self.run_dir, 1000, ignore, ignore)

    def journal(self) -> list[Any]:
        return list(read_journal(self.run_dir.files(1).journal))


def with_worker(
    path: Path, fake: Fake, act: Callable[[Desk], Awaitable[None]], **sections: Any
) -> tuple[Desk, float]:
    """Run a worker while `act` commands it; return the desk, and the time at which the worker had ended."""

    async def main() -> tuple[Desk, float]:
        ours, theirs = socket.socketpair()
        channel: Channel[Event] = await Channel.open(ours, Event)
        desk = Desk(path, channel, **sections)
        worker = asyncio.create_task(serve(theirs, fake))
        listening = asyncio.create_task(desk.listen())
        async with asyncio.timeout(1000):
            await act(desk)
            await worker
            await listening
        await channel.close()
        return desk, asyncio.get_running_loop().time()

    return virtual_time.run(main())
