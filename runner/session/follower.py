"""Polls whatever the service works on when it is due: the common part for jobs, batches and results."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from runner.records import Failure, ResultStatus
from runner.session.exchanges import Exchanges
from runner.session.parts import Parts
from runner.session.turnstile import AFTER_AN_EVENT, NotBefore
from runner.transport.outcomes import AnyOutcome, Gone, Throttled, Transient, Unauthorised

ABSENCE_S: Final = 60.0
"""Seconds by which a poll is late when the machine was asleep, or the process was stopped."""
POLLS_BEFORE_GONE: Final = 5
"""Consecutive polls that must find a job unknown before it is given up: a replica may be behind."""
GONE_SHARE: Final = 1 / 6
"""Least time a job must stay unknown, as a share of `limits.max_outage_s`.

Jitter can put five polls into one second.
"""
MOST_REPLANNED: Final = 256
"""Jobs about which the strategy is asked again in one go.

On news that a service has become slower, all due jobs may be postponed at once, and other work of the event
loop must not wait for them.
"""

_PERHAPS_DELIVERED: Final = "(accepted in an earlier session; perhaps done, and delivered to it)"


class Watched(Protocol):
    """Anything that can be followed; see `records.Polled` for the meaning of each attribute."""

    @property
    def row(self) -> int:
        """Its number among all that are followed."""

    @property
    def accepted(self) -> float:
        """Unix seconds at which the service accepted it."""

    polls: int
    pending: float | None
    poll_due_mono: float
    entry: int
    expedited: bool
    failed_polls: int
    failing_since_mono: float
    missing: int
    missing_since_mono: float
    inherited: bool


W = TypeVar("W", bound=Watched)


class Follower(ABC, Generic[W]):
    """Owns what waits to be polled: a heap by due time. `take` hands out, `poll` does the exchange.

    What is requested, and what an answer means, is up to the subclasses.
    """

    gone_share = GONE_SHARE
    """See `GONE_SHARE`."""

    def __init__(
        self,
        parts: Parts[Any],
        exchanges: Exchanges,
        *,
        on_due: Callable[[], None],
        on_forgotten: Callable[[W], None],
    ) -> None:
        """`on_due` is called when something may be due sooner than anything before.

        `on_forgotten` is called with something of an earlier session that the service no longer knows and
        that may be resent.
        """
        self._parts = parts
        self._meter = parts.meter
        self._section = parts.config.poll
        self._exchanges = exchanges
        self._on_due = on_due
        self._on_forgotten = on_forgotten
        self._heap: list[tuple[float, int, W]] = []
        self._entries = count()

    @abstractmethod
    def _request(self, watched: W) -> Awaitable[AnyOutcome]:
        """Do one exchange about it."""

    @abstractmethod
    async def _take_in(self, watched: W, outcome: AnyOutcome, started_mono: float, ended_mono: float) -> None:
        """Act on an answer that is about it."""

    @abstractmethod
    def _next_poll(self, watched: W, now: float) -> float:
        """Return when to poll it, in Unix seconds like `now`."""

    @abstractmethod
    def _lose(self, watched: W, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        """Give it up."""

    def _since(self, watched: W) -> float:
        """Return the time from which its deadline counts, in Unix seconds."""
        return watched.accepted

    def _poll_starts(self, watched: W, late_s: float) -> None:
        """Inform the strategy that a poll starts, `late_s` after it was due."""

    def take(self, now_mono: float) -> W | NotBefore:
        """Return what is to be polled now, or the time before which nothing is; see `Turnstile`."""
        opens_at_mono = self._exchanges.opens_at(now_mono)
        heap = self._heap
        for _ in range(min(MOST_REPLANNED, len(heap))):
            due_mono, entry, watched = heap[0]
            if watched.entry != entry:  # it was expedited
                heapq.heappop(heap)
                continue
            if max(due_mono, opens_at_mono) > now_mono:
                return NotBefore(max(due_mono, opens_at_mono))
            # More may be known by now than when the strategy postponed it to now.
            if not self._must_poll(watched):
                later_mono = self._due_mono(watched, now_mono)
                if later_mono > now_mono:
                    watched.poll_due_mono, watched.entry = later_mono, next(self._entries)
                    heapq.heapreplace(heap, (later_mono, watched.entry, watched))
                    continue
            heapq.heappop(heap)
            watched.entry, watched.expedited = -1, False
            self._exchanges.started(now_mono)
            self._poll_starts(watched, now_mono - due_mono)
            return watched
        return NotBefore(heap[0][0]) if heap else AFTER_AN_EVENT

    async def poll(self, watched: W) -> None:
        """Poll something that `take` handed out, and act on the answer. Raises what ends the run."""
        clock = self._parts.clock
        started_mono = clock.now_mono()
        outcome = await self._request(watched)
        ended_mono = clock.now_mono()
        watched.polls += 1
        self._meter.counts.polls += 1
        self._meter.latencies.poll.record(ended_mono - started_mono)
        end_of_run = self._exchanges.settle(outcome, started_mono, ended_mono)
        match outcome:
            case Throttled():  # which says nothing of what was requested, however late it is
                self._postpone(watched, outcome.cause, outcome.wait_s, ended_mono)
            case Transient():
                self._fail(watched, outcome, ended_mono)
            case Gone():
                self._miss(watched, outcome.failure, ended_mono)
            case Unauthorised():
                pass  # it stays outstanding
            case _:
                await self._take_in(watched, outcome, started_mono, ended_mono)
        if end_of_run:
            raise end_of_run

    def expedite(self, watched: W) -> None:
        """Poll something next, however far off its poll is; if it is being polled now, directly again."""
        watched.expedited = True
        if watched.entry >= 0:
            self._push(watched, self._parts.clock.now_mono())

    def _must_poll(self, watched: W) -> bool:
        """Return whether the strategy has no say: the last polls failed, or it may have ended long ago."""
        return watched.expedited or bool(watched.failed_polls) or (watched.inherited and not watched.polls)

    def _wait_on(self, watched: W, seen: float, ended_mono: float) -> None:
        """Plan the next poll of something that was not done at `seen`, in Unix seconds."""
        watched.pending = seen
        watched.failed_polls = watched.missing = 0
        if self._age_s(watched, ended_mono) >= self._section.deadline_s:
            said = f"not done {self._section.deadline_s:g} s after it was accepted (poll.deadline_s)"
            self._give_up(watched, Failure(type="deadline", message=said), ended_mono)
        elif watched.expedited:
            self._push(watched, ended_mono)
        else:
            self._push(watched, self._due_mono(watched, ended_mono))

    def _give_up(self, watched: W, failure: Failure, now_mono: float) -> None:
        """End it: it is past its deadline."""
        self._lose(watched, "expired", failure, now_mono)

    def _miss(self, watched: W, failure: Failure, now_mono: float) -> None:
        """Act on the answer that the service does not know it: perhaps not yet, or a replica is behind."""
        watched.missing += 1
        if watched.missing == 1:
            watched.missing_since_mono = now_mono
        gone_after_s = self.gone_share * self._parts.config.limits.max_outage_s
        if watched.missing < POLLS_BEFORE_GONE or now_mono - watched.missing_since_mono < gone_after_s:
            self._postpone(watched, "gone", None, now_mono)
        elif watched.inherited and self._parts.config.submit.on_uncertain == "resend":
            self._on_forgotten(watched)
        elif watched.inherited:
            said = f"{failure.message} {_PERHAPS_DELIVERED}"
            self._lose(watched, "uncertain", msgspec.structs.replace(failure, message=said), now_mono)
        else:
            self._lose(watched, "expired", failure, now_mono)

    def _fail(self, watched: W, outcome: Transient, now_mono: float) -> None:
        """Act on a poll that failed."""
        self._retry(watched, outcome.cause, outcome.failure, outcome.wait_s, now_mono)

    def _retry(self, watched: W, cause: str, failure: Failure, wait_s: float | None, now_mono: float) -> None:
        """Act on a poll that brought no answer about it, although it is paid for.

        After its deadline it is given up, but only while the service answers other polls: it may have been
        done long ago, and a machine that wakes up has no network yet.
        """
        since_mono = watched.failing_since_mono if watched.failed_polls else now_mono
        is_its_own = self._parts.health.answered_since(since_mono)
        is_late = self._age_s(watched, now_mono) >= self._section.deadline_s
        if is_late and is_its_own and watched.failed_polls + 1 >= POLLS_BEFORE_GONE:
            self._meter.counts.poll_retries[cause] += 1
            self._give_up(watched, failure, now_mono)
        else:
            self._postpone(watched, cause, wait_s, now_mono)

    def _postpone(self, watched: W, cause: str, wait_s: float | None, now_mono: float) -> None:
        """Poll it again after a wait that grows with every failure."""
        if not watched.failed_polls:
            watched.failing_since_mono = now_mono
        watched.failed_polls += 1
        self._meter.counts.poll_retries[cause] += 1
        self._push(watched, now_mono + self._parts.retry_wait_s(watched.failed_polls, wait_s))

    def _age_s(self, watched: W, now_mono: float) -> float:
        return self._parts.clock.unix(now_mono) - self._since(watched)

    def _due_mono(self, watched: W, now_mono: float) -> float:
        """Return when to poll it, as far as is known now; at its deadline at the latest."""
        clock = self._parts.clock
        due = self._next_poll(watched, clock.unix(now_mono))
        return clock.mono(min(due, self._since(watched) + self._section.deadline_s))

    def _push(self, watched: W, due_mono: float) -> None:
        watched.poll_due_mono, watched.entry = due_mono, next(self._entries)
        heapq.heappush(self._heap, (due_mono, watched.entry, watched))
        if self._heap[0][2] is watched:
            self._on_due()


def was_watched(watched: Watched, polled_mono: float) -> bool:
    """Return whether the last poll shows when it ended, and not only how long nobody watched."""
    is_first = watched.inherited and watched.pending is None
    return polled_mono - watched.poll_due_mono < ABSENCE_S and not is_first
