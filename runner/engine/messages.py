"""What the main process of a run and its workers tell each other."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Generic, Self, TypeVar

import msgspec

from runner import errors
from runner.errors import Problem, RunnerError, StoppedEarly
from runner.measure.histogram import Counts
from runner.measure.merging import Totals
from runner.records import Job
from runner.store import Unacknowledged


class Setup(msgspec.Struct, tag=True):
    """The first order: what is the same for all the time of a worker."""

    config: bytes
    """JSON of the worker's share of the config."""
    run_dir: str
    worker: int
    run_id: str
    base_url: str
    session: int
    resumes: bool
    """After an earlier session, or in the place of a worker that died."""
    has_contact: bool
    """The service was met already."""
    restarts: list[float]
    began: float | None
    """When the first session of the run began, in Unix seconds."""


class Follow(msgspec.Struct, tag=True):
    """Poll these jobs of an earlier session, or of a worker that died."""

    jobs: list[Job]


class Grant(msgspec.Struct, tag=True):
    """Send these rows, in rising order, each grant's behind those of the grant before."""

    rows: list[int]
    unacknowledged: dict[int, Unacknowledged] = {}
    """Those among them that were perhaps sent before."""
    epochs: dict[int, int] = {}
    """Of those among them that were reopened."""


class AllGranted(msgspec.Struct, tag=True):
    """All rows are handed out; there will be more only if some are given back."""


class Met(msgspec.Struct, tag=True):
    """A worker has met the service: the others need not send a first request alone."""


class Answered(msgspec.Struct, tag=True):
    """The service has answered a worker, at this time of the clock that all share; see `Contact`."""

    at: float


class Drain(msgspec.Struct, tag=True):
    """Send nothing more; poll what is open for `limits.drain_s`."""


class Stop(msgspec.Struct, tag=True):
    """Neither send nor poll any more; with `hurry`, not even wait for what is under way."""

    hurry: bool


class Want(msgspec.Struct, tag=True):
    """The worker could send more rows than it has."""


class GiveBack(msgspec.Struct, tag=True):
    """The worker has no place for these rows of its leases: they may go to another."""

    rows: list[int]


class Report(msgspec.Struct, tag=True):
    """How the worker stands: totals since it began, and the latencies since its last report."""

    totals: Totals
    latencies: dict[str, Counts]
    loop_lag: Counts
    has_contact: bool
    answered_at: float
    cpu_s: float
    rss_bytes: int
    is_limited: bool


class Say(msgspec.Struct, tag=True):
    """A line for the user."""

    text: str


class Failing(msgspec.Struct, tag=True):
    """The worker cannot go on, and brings home what it has; `Ended` will follow."""

    error: str
    problems: list[tuple[str, str, str]]


class Ended(msgspec.Struct, tag=True):
    """The last news: the worker is done, or could not go on; `error` names a class of `runner.errors`."""

    error: str | None = None
    problems: list[tuple[str, str, str]] = []
    """What, where and hint of each."""


def problems_of(error: RunnerError) -> list[tuple[str, str, str]]:
    """What `Failing` and `Ended` tell of an error."""
    return [(problem.what, problem.where, problem.hint) for problem in error.problems]


def error_of(news: Failing | Ended) -> RunnerError:
    """The error that they tell of."""
    kind = getattr(errors, news.error or "", StoppedEarly)
    error: RunnerError = kind(*(Problem(*problem) for problem in news.problems))
    return error


Order = Setup | Follow | Grant | AllGranted | Met | Answered | Drain | Stop
News = Want | GiveBack | Report | Say | Failing | Ended
Received = TypeVar("Received")
_encode: Final = msgspec.msgpack.Encoder().encode
_LENGTH_BYTES: Final = 4


class Channel(Generic[Received]):
    """Messages over one socket, in order; `received` is what the other side may send."""

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
        """Over one end of a socket pair; `received` is the type of what may arrive."""
        reader, writer = await asyncio.open_connection(sock=end)
        return cls(reader, writer, msgspec.msgpack.Decoder(received))

    def send(self, message: Order | News) -> None:
        """Never waits: what is sent is small, or is taken in at once."""
        if not self._writer.is_closing():
            encoded = _encode(message)
            self._writer.write(len(encoded).to_bytes(_LENGTH_BYTES) + encoded)

    async def receive(self) -> Received | None:
        """The next message; None when the other side has ended, however it did."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
            return self._decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def close(self) -> None:
        """After what was sent is on its way."""
        try:
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()
        except OSError:
            pass  # the other side has gone
