"""Jobs behind a polling strategy, in virtual time: no clock is read, looks take no time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runner.policy.polling import Polling

Jobs = list[tuple[float, float]]
"""When each is accepted, and when it ends."""


@dataclass(slots=True)
class WatchedJob:
    """A job as a strategy sees it, and when it really ends."""

    kind: str
    order: int
    accepted: float
    ends: float
    pending: float | None = None
    polls: int = 0


@dataclass
class Watch:
    """What a strategy spent: one entry a job, in the order of acceptance."""

    looks: list[int]
    lag_s: list[float]
    calls: int = 0
    """Questions put to the strategy, and news told to it."""
    exchange_s: list[float] = field(default_factory=list)
    """The exchange rate in force when the job was seen done; zero while the strategy had none."""

    def mean_looks(self, since: int = 0) -> float:
        return sum(self.looks[since:]) / len(self.looks[since:])

    def mean_lag_s(self, since: int = 0) -> float:
        return sum(self.lag_s[since:]) / len(self.lag_s[since:])

    def mean_exchange_s(self, since: int = 0) -> float:
        return sum(self.exchange_s[since:]) / len(self.exchange_s[since:])

    def cost_s(self, exchange_s: float, since: int = 0) -> float:
        """Per job, in seconds of lag."""
        return exchange_s * self.mean_looks(since) + self.mean_lag_s(since)

    def cost_at_s(self, rates: list[float]) -> float:
        """Per job, each at an exchange rate of its own."""
        return (
            sum(rate * looks for rate, looks in zip(rates, self.looks, strict=True)) / len(self.looks)
            + self.mean_lag_s()
        )


def watch(
    policy: Polling,
    jobs: Jobs,
    kinds: Sequence[str] = ("kind",),
    rate: float = math.inf,
) -> Watch:
    """Follow jobs, each accepted and ending at given times, until every one is seen done.

    At most `rate` looks per second, those that are due longest first. Job n is of kind n modulo the kinds.
    """
    seen = Watch([0] * len(jobs), [0.0] * len(jobs), 0, [0.0] * len(jobs))
    exchange_s = getattr(policy, "exchange_s", lambda kind: None)
    ordered = sorted(range(len(jobs)), key=lambda n: jobs[n][0])
    due: list[tuple[float, int, WatchedJob]] = []
    opens_at, order = 0.0, 0
    while due or order < len(jobs):
        if order < len(jobs) and (not due or jobs[ordered[order]][0] <= max(due[0][0], opens_at)):
            n = ordered[order]
            job = WatchedJob(kinds[n % len(kinds)], order, *jobs[n])
            order += 1
            heapq.heappush(due, (policy.next_poll(job, job.accepted), n, job))
            seen.calls += 1
            continue
        due_at, n, job = heapq.heappop(due)
        now = max(due_at, opens_at)
        later = policy.next_poll(job, now)
        seen.calls += 3
        if later > now:
            heapq.heappush(due, (later, n, job))
            continue
        opens_at = now + 1 / rate
        policy.started(job, now - due_at)
        job.polls += 1
        if now >= job.ends:
            policy.saw_done(job, now)
            seen.looks[n], seen.lag_s[n] = job.polls, now - job.ends
            seen.exchange_s[n] = exchange_s(job.kind) or 0.0
            continue
        policy.saw_pending(job, now)
        job.pending = now
        later = policy.next_poll(job, now)
        assert now < later < math.inf
        heapq.heappush(due, (later, n, job))
        seen.calls += 1
    return seen


def spaced(latencies: Iterable[float], spacing_s: float) -> Jobs:
    """Jobs accepted one after the other at even distances, none of which waits for another."""
    return [(n * spacing_s, n * spacing_s + latency) for n, latency in enumerate(latencies)]


def queued(accepted: Iterable[float], services: Iterable[float], slots: int) -> Jobs:
    """Jobs served in order of acceptance, `slots` at a time."""
    free = [0.0] * slots
    jobs: Jobs = []
    for at, service in zip(accepted, services, strict=True):
        ends = max(at, heapq.heappop(free)) + service
        heapq.heappush(free, ends)
        jobs.append((at, ends))
    return jobs
