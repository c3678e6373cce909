"""Coordinator and workers send each other messages over a socket: whole, in order, and lost without harm."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runner import errors
from runner.engine.messages import (
    AllGranted,
    Answered,
    Channel,
    Command,
    Confirmed,
    Drain,
    Event,
    Failing,
    Follow,
    GiveBack,
    Grant,
    Report,
    Say,
    Setup,
    Stop,
    WantRows,
    WorkerEnded,
    error_of,
    problems_of,
)
from runner.errors import Problem, RunnerError, StoppedEarly, StorageError
from runner.measure.counts import Counts
from runner.measure.in_flight import InFlight
from runner.measure.vitals import WorkerVitals
from runner.records import Job
from runner.store import Unacknowledged
from tests import virtual_time

JOB = Job(3, "row-3", "job-3", "m|flex", due=1.0, sent=2.0, accepted=3.0, attempts=2, epoch=1, inherited=True)
SETUP = Setup(b"{}", "runs/t", 1, "id", "http://here", 2, True, False, [1.0, 2.0], None)
COMMANDS: list[Command] = [
    SETUP,
    Follow([JOB]),
    Grant([1, 2, 300], {2: Unacknowledged("key", 1.0, 2.0)}, {300: 1}),
    AllGranted(),
    Confirmed(),
    Answered(1.5),
    Drain(),
    Stop(forced=True),
]
EVENTS: list[Event] = [
    WantRows(),
    GiveBack([4, 5]),
    Report(
        counts=Counts(statuses=Counter(completed=2), last_done=5.0),
        in_flight=InFlight(total=3, taken=1, finished=2),
        latencies={"latencies.completion": ([(5, 2)], 0.5, 0.3)},
        loop_lag=([], 0.0, 0.0),
        vitals=WorkerVitals(1.0, 5, is_limited=True),
        is_confirmed=True,
        answered_at_mono=float("-inf"),
    ),
    Say("a line"),
    Failing("KeyRefused", [("what", "where", "hint")]),
    WorkerEnded(),
]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Channel[Event], Channel[Command]]]:
    """Open both ends of a channel: that of a coordinator, and that of a worker."""
    ours, theirs = socket.socketpair()
    coordinator: Channel[Event] = await Channel.open(ours, Event)
    worker: Channel[Command] = await Channel.open(theirs, Command)
    yield coordinator, worker
    await coordinator.close()
    await worker.close()


Talk = Callable[[Channel[Event], Channel[Command]], Coroutine[Any, Any, None]]


def talk(conversation: Talk) -> None:
    async def main() -> None:
        async with connected() as (coordinator, worker):
            await conversation(coordinator, worker)

    virtual_time.run(main())


def test_every_message_arrives_as_it_was_sent_and_in_order() -> None:
    async def conversation(coordinator: Channel[Event], worker: Channel[Command]) -> None:
        for command in COMMANDS:
            coordinator.send(command)
        for event in EVENTS:
            worker.send(event)
        assert [await worker.receive() for _ in COMMANDS] == COMMANDS
        assert [await coordinator.receive() for _ in EVENTS] == EVENTS

    talk(conversation)


def test_a_message_larger_than_the_socket_holds_arrives_whole() -> None:
    async def conversation(coordinator: Channel[Event], worker: Channel[Command]) -> None:
        grant = Grant(list(range(200_000)))
        coordinator.send(grant)
        coordinator.send(Drain())
        assert await worker.receive() == grant
        assert await worker.receive() == Drain()

    talk(conversation)


def test_after_the_other_end_is_closed_the_rest_is_received_and_then_nothing() -> None:
    async def conversation(coordinator: Channel[Event], worker: Channel[Command]) -> None:
        worker.send(Say("last words"))
        await worker.close()
        assert await coordinator.receive() == Say("last words")
        assert await coordinator.receive() is None
        assert await coordinator.receive() is None

    talk(conversation)


def test_what_is_sent_to_an_end_that_is_closed_is_lost_without_an_error() -> None:
    async def conversation(coordinator: Channel[Event], worker: Channel[Command]) -> None:
        await worker.close()
        for _ in range(100):
            coordinator.send(Drain())
            await asyncio.sleep(0)
        await coordinator.close()
        coordinator.send(Drain())
        worker.send(WantRows())

    talk(conversation)


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_message_that_breaks_off_in_the_middle_is_the_end(cut: int) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        channel: Channel[Event] = await Channel.open(ours, Event)
        theirs.sendall(((100).to_bytes(4) + b"half of it")[:cut])
        theirs.close()
        assert await channel.receive() is None
        await channel.close()

    virtual_time.run(main())


CLASSES = [it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, RunnerError)]


@pytest.mark.parametrize("kind", [it for it in CLASSES if it is not errors.Interrupted])
def test_an_error_keeps_its_class_and_its_problems_on_the_way(kind: type[RunnerError]) -> None:
    error = kind(Problem("what", "where", "hint"), "only text")
    event = WorkerEnded(type(error).__name__, problems_of(error))
    arrived = error_of(event)

    assert type(arrived) is kind
    assert arrived.problems == error.problems
    assert (str(arrived), arrived.exit_code) == (str(error), error.exit_code)


def test_an_error_of_an_unknown_class_stops_the_run_early() -> None:
    assert type(error_of(Failing("NoSuchError", [("what", "", "")]))) is StoppedEarly
    assert type(error_of(Failing("StorageError", []))) is StorageError
