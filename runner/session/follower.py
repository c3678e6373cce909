"""Looks at what the service works on, each when it is due: what is the same whatever is looked at."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from runner.policy.circuit import Circuit
from runner.policy.rate_gate import RateGate
from runner.records import Failure, ResultStatus
from runner.session.parts import Parts
from runner.transport.outcomes import (
    AnyOutcome,
    Gone,
    Throttled,
    Transient,
    Unauthorised,
)

ABSENCE_S: Final = 60.0
"""A look that came so much later than it was due: the machine was asleep, or the process stopped."""
LOOKS_BEFORE_GONE: Final = 5
"""A job must be unknown this many times in a row: right after acceptance a replica may not have it yet."""
GONE_SHARE: Final = 1 / 6
"""And for this share of `limits.max_outage_s`: jitter may bring five looks within a second."""
MOST_ASKED: Final = 256
"""Jobs about which the strategy is asked again in one go. On news that a service got slower all that
are due may be put off at once, and other work of the event loop must not wait for them."""

_PERHAPS_DELIVERED: Final = "(accepted in an earlier session; perhaps done, and delivered to it)"


class Watched(Protocol):
    """What is looked at until it has ended; see `records.Job` for the meaning of each."""

    @property
    def row(self) -> int:
        """Tells it from all others."""

    accepted: float
    polls: int
    pending: float | None
    look_due: float
    failed_polls: int
    failing_since: float
    missing: int
    missing_since: float
    inherited: bool


Looked = TypeVar("Looked", bound=Watched)


class Follower(ABC, Generic[Looked]):
    """Owns what is waiting to be looked at: a heap by due time. `take` hands out, `look` does it.

    What is being asked, and what an answer means, is said by the classes below it.
    """

    gone_share = GONE_SHARE

    def __init__(self, parts: Parts, gate: RateGate, circuit: Circuit, wake: Callable[[], None]) -> None:
        self._parts = parts
        self._meter = parts.meter
        self._section = parts.config.poll
        self._gate = gate
        self._circuit = circuit
        self._wake = wake
        self._due: list[tuple[float, int, Looked]] = []
        self.on_forgotten: Callable[[Looked], None] = lambda _: None
        """Told of one of an earlier session that the service does not know, and that may be sent again."""

    @abstractmethod
    async def _ask(self, watched: Looked) -> AnyOutcome:
        """One exchange about it."""

    @abstractmethod
    async def _take_in(self, watched: Looked, outcome: AnyOutcome, started: float, ended: float) -> None:
        """An answer that is about it."""

    @abstractmethod
    def _next_look(self, watched: Looked, now: float) -> float:
        """When to look at it, in Unix seconds like `now`."""

    @abstractmethod
    def _lose(self, watched: Looked, status: ResultStatus, failure: Failure, now: float) -> None:
        """It is given up."""

    def _since(self, watched: Looked) -> float:
        """The time from which its deadline counts, in Unix seconds."""
        return watched.accepted

    def _starts(self, watched: Looked, late_s: float) -> None:
        """A look starts, so much later than it was due."""

    def _must_be_seen(self, watched: Looked) -> bool:
        """Whatever the strategy says: a poll brought no answer, or the job may have ended long ago."""
        return bool(watched.failed_polls) or (watched.inherited and not watched.polls)

    def take(self, now: float) -> tuple[Looked | None, float | None]:
        """What is to be looked at now, or when to ask again; see `Turnstile`."""
        may_start_at = max(self._gate.opens_at(now), self._circuit.opens_at())
        for _ in range(min(MOST_ASKED, len(self._due))):
            due, _, watched = self._due[0]
            if max(due, may_start_at) > now:
                return None, max(due, may_start_at)
            # More may be known by now than when the strategy put it off to now.
            if not self._must_be_seen(watched) and (later := self._due_at(watched, now)) > now:
                watched.look_due = later
                heapq.heapreplace(self._due, (later, watched.row, watched))
                continue
            self._gate.started(now)
            self._circuit.started()
            self._starts(watched, now - due)
            return heapq.heappop(self._due)[2], None
        return None, self._due[0][0] if self._due else None

    async def look(self, watched: Looked) -> None:
        """Ask, and draw the consequences. Raises what ends the run."""
        clock = self._parts.clock
        started = clock.now()
        outcome = await self._ask(watched)
        ended = clock.now()
        watched.polls += 1
        self._meter.polls += 1
        self._meter.latencies.poll.record(ended - started)
        await self._settle(watched, outcome, started, ended)

    async def _settle(self, watched: Looked, outcome: AnyOutcome, started: float, ended: float) -> None:
        end_of_run = self._parts.contact.note(outcome, ended)
        if self._circuit.ended(ended, answered=not isinstance(outcome, Transient)):
            self._wake()
        match outcome:
            case Throttled():  # which says nothing of what was asked about, however late it is
                self._parts.throttled(self._gate, outcome, started, ended)
                self._push_back(watched, outcome.cause, outcome.wait_s, ended)
            case Transient():
                self._look_again(watched, outcome.cause, outcome.failure, outcome.wait_s, ended)
            case Gone():
                self._gate.accepted()
                self._miss(watched, outcome.failure, ended)
            case Unauthorised():
                pass  # it stays open
            case _:
                self._gate.accepted()
                await self._take_in(watched, outcome, started, ended)
        if end_of_run:
            raise end_of_run

    def _wait_on(self, watched: Looked, seen: float, ended: float) -> None:
        """It was not done at `seen`, in Unix seconds; look again when the strategy says."""
        watched.pending = seen
        watched.failed_polls = watched.missing = 0
        if self._age_s(watched, ended) >= self._section.deadline_s:
            said = f"not done {self._section.deadline_s:g} s after it was accepted (poll.deadline_s)"
            self._give_up(watched, Failure(type="deadline", message=said), ended)
        else:
            self._push(watched, self._due_at(watched, ended))

    def _give_up(self, watched: Looked, failure: Failure, now: float) -> None:
        """It is past its deadline."""
        self._lose(watched, "expired", failure, now)

    def _miss(self, watched: Looked, failure: Failure, now: float) -> None:
        """The service does not know it: perhaps only not yet, or a replica that is behind."""
        watched.missing += 1
        if watched.missing == 1:
            watched.missing_since = now
        gone_after_s = self.gone_share * self._parts.config.limits.max_outage_s
        if watched.missing < LOOKS_BEFORE_GONE or now - watched.missing_since < gone_after_s:
            self._push_back(watched, "gone", None, now)
        elif watched.inherited and self._parts.config.submit.on_uncertain == "resend":
            self.on_forgotten(watched)
        elif watched.inherited:
            said = f"{failure.message} {_PERHAPS_DELIVERED}"
            self._lose(watched, "uncertain", msgspec.structs.replace(failure, message=said), now)
        else:
            self._lose(watched, "expired", failure, now)

    def _look_again(
        self, watched: Looked, cause: str, failure: Failure, wait_s: float | None, now: float
    ) -> None:
        """A poll brought no answer about the job, which is paid for.

        After its deadline it is given up, but only while the service answers other questions: it may have
        been done long ago, and a machine that wakes up has no network yet.
        """
        since = watched.failing_since if watched.failed_polls else now
        is_its_own = self._parts.contact.answered_since(since)
        is_late = self._age_s(watched, now) >= self._section.deadline_s
        if is_late and is_its_own and watched.failed_polls + 1 >= LOOKS_BEFORE_GONE:
            self._meter.poll_retries[cause] += 1
            self._give_up(watched, failure, now)
        else:
            self._push_back(watched, cause, wait_s, now)

    def _push_back(self, watched: Looked, cause: str, wait_s: float | None, now: float) -> None:
        if not watched.failed_polls:
            watched.failing_since = now
        watched.failed_polls += 1
        self._meter.poll_retries[cause] += 1
        self._push(watched, now + self._parts.retry_wait_s(watched.failed_polls, wait_s))

    def _age_s(self, watched: Looked, now: float) -> float:
        return self._parts.clock.unix(now) - self._since(watched)

    def _due_at(self, watched: Looked, now: float) -> float:
        """When to look at it, as far as is known now; at its deadline at the latest."""
        clock = self._parts.clock
        look = self._next_look(watched, clock.unix(now))
        return clock.monotonic(min(look, self._since(watched) + self._section.deadline_s))

    def _push(self, watched: Looked, due: float) -> None:
        watched.look_due = due
        heapq.heappush(self._due, (due, watched.row, watched))
        if self._due[0][2] is watched:
            self._wake()


def was_watched(watched: Watched, looked: float) -> bool:
    """Whether the last look tells when a job ended, and not only how long nobody looked."""
    return looked - watched.look_due < ABSENCE_S and not (watched.inherited and watched.pending is None)
