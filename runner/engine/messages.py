"""Messages between the coordinator of a run and its workers: commands one way, events the other."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Generic, Self, TypeVar

import msgspec

from runner import errors
from runner.errors import Problem, RunnerError, StoppedEarly
from runner.measure.counts import Counts
from runner.measure.histogram import HistogramCounts
from runner.measure.in_flight import InFlight
from runner.measure.vitals import WorkerVitals
from runner.records import Job
from runner.store import Unacknowledged


class Setup(msgspec.Struct, tag=True):
    """The first command: what stays the same as long as a worker lives."""

    config: bytes
    """JSON of the worker's share of the config."""
    run_dir: str
    worker: int
    run_id: str
    base_url: str
    session: int
    resumes: bool
    """Whether the worker comes after an earlier session, or in place of a worker that died."""
    is_confirmed: bool
    """Whether the service is known to be there."""
    restarts: list[float]
    """Unix seconds at which later sessions of the run began."""
    began: float | None
    """Unix seconds at which the first session of the run began."""


class Follow(msgspec.Struct, tag=True):
    """Command: poll these jobs of an earlier session, or of a worker that died."""

    jobs: list[Job]


class Grant(msgspec.Struct, tag=True):
    """Command: send these rows, in rising order, each grant after the one before."""

    rows: list[int]
    unacknowledged: dict[int, Unacknowledged] = {}
    """Rows of the grant that were perhaps sent before."""
    epochs: dict[int, int] = {}
    """Epochs of the rows of the grant that were reopened."""


class AllGranted(msgspec.Struct, tag=True):
    """Command: expect no more rows, unless some are given back."""


class Confirmed(msgspec.Struct, tag=True):
    """Command: send freely, for another worker has found the service to be there."""


class Answered(msgspec.Struct, tag=True):
    """Command: note that the service answered another worker, on the monotonic clock that all share."""

    at_mono: float


class Drain(msgspec.Struct, tag=True):
    """Command: send nothing more, and poll what is outstanding for `limits.drain_s`."""


class Stop(msgspec.Struct, tag=True):
    """Command: neither send nor poll any more; `forced`, without the grace period for open exchanges."""

    forced: bool


class WantRows(msgspec.Struct, tag=True):
    """Event: the worker could send more rows than it has."""


class GiveBack(msgspec.Struct, tag=True):
    """Event: the worker has no slot for these rows of its leases, which may go to another."""

    rows: list[int]


class Report(msgspec.Struct, tag=True):
    """Event: the worker's counts since it began, and its latencies since the last report."""

    counts: Counts
    in_flight: InFlight
    latencies: dict[str, HistogramCounts]
    loop_lag: HistogramCounts
    vitals: WorkerVitals
    is_confirmed: bool
    answered_at_mono: float


class Say(msgspec.Struct, tag=True):
    """Event: a line for the user."""

    text: str


class Failing(msgspec.Struct, tag=True):
    """Event: the worker cannot go on and finishes what is open; `WorkerEnded` will follow."""

    error: str
    problems: list[tuple[str, str, str]]


class WorkerEnded(msgspec.Struct, tag=True):
    """The last event: the worker is done, or could not go on; `error` names a class of `runner.errors`."""

    error: str | None = None
    problems: list[tuple[str, str, str]] = []
    """Problems of the error: what, where and hint of each."""


def problems_of(error: RunnerError) -> list[tuple[str, str, str]]:
    """Return the problems of an error in the form that `Failing` and `WorkerEnded` have."""
    return [(problem.what, problem.where, problem.hint) for problem in error.problems]


def error_of(event: Failing | WorkerEnded) -> RunnerError:
    """Return the error that an event reports."""
    kind = getattr(errors, event.error or "", StoppedEarly)
    error: RunnerError = kind(*(Problem(*problem) for problem in event.problems))
    return error


Command = Setup | Follow | Grant | AllGranted | Confirmed | Answered | Drain | Stop
Event = WantRows | GiveBack | Report | Say | Failing | WorkerEnded
Received = TypeVar("Received")
_encode: Final = msgspec.msgpack.Encoder().encode
_LENGTH_BYTES: Final = 4


class Channel(Generic[Received]):
    """Messages over one socket, in order; `Received` is what the other side may send."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        received: msgspec.msgpack.Decoder[Received],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decode = received.decode

    @classmethod
    async def open(cls, end: socket.socket, received: object) -> Self:
        """Open a channel over one end of a socket pair; `received` is the type of what may arrive."""
        reader, writer = await asyncio.open_connection(sock=end)
        return cls(reader, writer, msgspec.msgpack.Decoder(received))

    def send(self, message: Command | Event) -> None:
        """Send without waiting: messages are small, or read at once. Lost if the other side has ended."""
        if not self._writer.is_closing():
            encoded = _encode(message)
            self._writer.write(len(encoded).to_bytes(_LENGTH_BYTES) + encoded)

    async def receive(self) -> Received | None:
        """Return the next message, or None when the other side has ended, for whatever reason."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
            return self._decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def close(self) -> None:
        """Close the channel, once everything that was sent is on its way."""
        try:
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()
        except OSError:
            pass  # the other side has gone
