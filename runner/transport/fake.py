"""A service in memory, for tests of whatever uses a transport: no sockets, and no time but the event loop's.

    Fake(Behaviour(takes_s=30.0), Script(submit={2: throttled(wait_s=5.0), 3: LOST}), latency_s=0.1)
    Fake(Behaviour(posts_per_s=5.0, honours_keys=False), down_mono=[(60.0, 120.0)])

On an event loop whose clock jumps, a day of such a service passes in a moment.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar

from runner.transport.fake_outcomes import (
    done,
    gone,
    rejected,
    throttled,
    transient,
    unauthorised,
    unsupported,
)
from runner.transport.fake_service import Behaviour, FakeBatch, FakeJob, FakeService, Gauge
from runner.transport.outcomes import (
    AnyOutcome,
    BatchOutcome,
    CancelOutcome,
    CreateOutcome,
    ListOutcome,
    RetrieveOutcome,
    SubmitOutcome,
    Transient,
)
from runner.transport.uploads import Upload

__all__ = [
    "LOST",
    "Behaviour",
    "Exchange",
    "Fake",
    "FakeBatch",
    "FakeJob",
    "Script",
    "done",
    "gone",
    "rejected",
    "throttled",
    "transient",
    "unauthorised",
    "unsupported",
]

Verb = Literal[
    "submit", "retrieve", "cancel", "create_batch", "retrieve_batch", "batch_result", "list_batches"
]
"""The methods of `Transport` that are exchanges."""


class _Lost(Enum):
    LOST = auto()


LOST: Final = _Lost.LOST
"""Scripted answer: the service acts on the request, and its acknowledgement is lost on the way back."""


@dataclass(eq=False, slots=True)
class Exchange:
    """One call of the transport, as it was recorded. Times are event loop times, in seconds."""

    verb: Verb
    number: int
    """Position among the exchanges of this verb, from 1."""
    started_mono: float
    body: bytes = b""
    key: str = ""
    id: str = ""
    """Job or batch that it is about; `before_id` for a list."""
    custom_id: str = ""
    ended_mono: float | None = None
    """Time of the answer; None while there is none."""
    outcome: AnyOutcome | None = None
    """Answer; None while there is none, or if the call was cancelled or raised."""


Some = TypeVar("Some", bound=AnyOutcome)
Answer: TypeAlias = Some | _Lost | BaseException
Answers: TypeAlias = Mapping[int, Answer[Some]] | Callable[[Exchange], Answer[Some] | None]
"""Answers by the number of the exchange, or a function that returns one, or None for the usual answer.

An outcome is returned as it is, and nothing happens at the service; an exception is raised.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """Answers to single exchanges, by verb."""

    submit: Answers[SubmitOutcome] = field(default_factory=dict)
    retrieve: Answers[RetrieveOutcome] = field(default_factory=dict)
    cancel: Answers[CancelOutcome] = field(default_factory=dict)
    create_batch: Answers[CreateOutcome] = field(default_factory=dict)
    retrieve_batch: Answers[BatchOutcome] = field(default_factory=dict)
    batch_result: Answers[RetrieveOutcome] = field(default_factory=dict)
    list_batches: Answers[ListOutcome] = field(default_factory=dict)


class Fake:
    """A `Transport` to a service in memory that records every exchange.

    A request arrives when the call begins, and its answer comes `latency_s` later (`math.inf`: never). A
    scripted answer goes before `down_mono`, and that before the service's own behaviour.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        script: Script | None = None,
        *,
        latency_s: float | Callable[[Exchange], float] = 0.0,
        timeout_s: float = math.inf,
        down_mono: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.service = FakeService(behaviour or Behaviour())
        self.script = script or Script()
        self.latency_s = latency_s
        self.timeout_s = timeout_s
        """Latency above which the outcome is an ambiguous timeout, as with the real transports."""
        self.down_mono = down_mono
        """Loop times (from, until) between which no connection can be made; jobs go on."""
        self.exchanges: list[Exchange] = []
        """All exchanges by the time they began."""
        self.at_once: dict[Verb, Gauge] = defaultdict(Gauge)
        """Exchanges of each verb that wait for their answer."""
        self.is_closed = False
        self._by_verb: dict[Verb, list[Exchange]] = defaultdict(list)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(made)} {verb}" for verb, made in self._by_verb.items())
        return f"<Fake: {counts or 'no exchanges'}; {self.service.in_flight.now} in flight>"

    @property
    def posts(self) -> list[Exchange]:
        """POSTs of jobs, in order."""
        return self.of("submit")

    @property
    def gets(self) -> list[Exchange]:
        """GETs of jobs, in order."""
        return self.of("retrieve")

    @property
    def jobs_made(self) -> list[FakeJob]:
        """Jobs of the service in the order they were made, without the requests of batches."""
        return list(self.service.jobs.values())

    @property
    def batches_made(self) -> list[FakeBatch]:
        """Batches of the service in the order they were made."""
        return list(self.service.batches.values())

    @property
    def most_in_flight(self) -> int:
        """Highest number of jobs and requests of batches that were made and whose end was not fetched."""
        return self.service.in_flight.most

    def of(self, verb: Verb) -> list[Exchange]:
        """Return the exchanges of one verb, in order."""
        return self._by_verb[verb]

    async def submit(self, body: bytes, idempotency_key: str) -> SubmitOutcome:
        """Submit a job with these bytes as its body."""
        exchange = self._begin("submit", body=body, key=idempotency_key)
        return await self._answer(
            exchange, self.script.submit, partial(self.service.submit, body, idempotency_key)
        )

    async def retrieve(self, job_id: str) -> RetrieveOutcome:
        """Return the status of one job."""
        exchange = self._begin("retrieve", job_id)
        return await self._answer(exchange, self.script.retrieve, partial(self.service.retrieve, job_id))

    async def cancel(self, job_id: str) -> CancelOutcome:
        """Cancel one job."""
        exchange = self._begin("cancel", job_id)
        return await self._answer(exchange, self.script.cancel, partial(self.service.cancel, job_id))

    async def create_batch(self, content: Upload, idempotency_key: str) -> CreateOutcome:
        """Make a batch of the requests in a file. Raises `StorageError` if that cannot be read."""
        body = _read(content)
        exchange = self._begin("create_batch", body=body, key=idempotency_key)
        act = partial(self.service.create_batch, body, idempotency_key)
        return await self._answer(exchange, self.script.create_batch, act)

    async def retrieve_batch(self, batch_id: str) -> BatchOutcome:
        """Return the statuses of all requests of a batch."""
        exchange = self._begin("retrieve_batch", batch_id)
        act = partial(self.service.retrieve_batch, batch_id)
        return await self._answer(exchange, self.script.retrieve_batch, act)

    async def batch_result(self, batch_id: str, custom_id: str) -> RetrieveOutcome:
        """Return the result of one request of a batch."""
        exchange = self._begin("batch_result", batch_id, custom_id=custom_id)
        act = partial(self.service.batch_result, batch_id, custom_id)
        return await self._answer(exchange, self.script.batch_result, act)

    async def list_batches(self, before_id: str | None, limit: int) -> ListOutcome:
        """Return one page of batches, newest first."""
        exchange = self._begin("list_batches", before_id or "")
        act = partial(self.service.list_batches, before_id, limit)
        return await self._answer(exchange, self.script.list_batches, act)

    async def close(self) -> None:
        """Record that the transport was closed."""
        self.is_closed = True

    def _begin(
        self, verb: Verb, asked_id: str = "", *, custom_id: str = "", body: bytes = b"", key: str = ""
    ) -> Exchange:
        made = self._by_verb[verb]
        now_mono = asyncio.get_running_loop().time()
        exchange = Exchange(verb, len(made) + 1, now_mono, body, key, asked_id, custom_id)
        made.append(exchange)
        self.exchanges.append(exchange)
        return exchange

    async def _answer(
        self, exchange: Exchange, answers: Answers[Some], act: Callable[[float], Some]
    ) -> Some | Transient:
        """Let the request arrive, wait for its answer, and record it. Raises what is scripted."""
        answer = self._arrive(exchange, answers, act)
        latency_s = self.latency_s(exchange) if callable(self.latency_s) else self.latency_s
        if latency_s > self.timeout_s:
            answer = transient("timeout", ambiguous=True)
        gauge = self.at_once[exchange.verb]
        gauge.up()
        try:
            await _sleep(min(latency_s, self.timeout_s))
        finally:
            gauge.down()
        exchange.ended_mono = asyncio.get_running_loop().time()
        if isinstance(answer, BaseException):
            raise answer
        exchange.outcome = answer
        return answer

    def _arrive(
        self, exchange: Exchange, answers: Answers[Some], act: Callable[[float], Some]
    ) -> Some | Transient | BaseException:
        now_mono = exchange.started_mono
        answer = answers(exchange) if callable(answers) else answers.get(exchange.number)
        if isinstance(answer, _Lost):
            act(now_mono)
            return transient("reset", ambiguous=True)
        if answer is not None:
            return answer
        if any(start <= now_mono < stop for start, stop in self.down_mono):
            return transient("connect")
        return act(now_mono)


async def _sleep(wait_s: float) -> None:
    if wait_s == math.inf:
        await asyncio.get_running_loop().create_future()  # a timer for it would never be the next one
    await asyncio.sleep(wait_s)


def _read(content: Upload) -> bytes:
    """Read a whole upload at once: a thread would take real time. Raises `StorageError`."""
    return content.piece(0, content.size_bytes)
