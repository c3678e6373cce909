"""Follows jobs by a polling strategy in virtual time: no clock is read, and polls take no time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runner.policy.polling import Polling

Jobs = list[tuple[float, float]]
"""Pairs of the time at which a job is accepted, and the time at which it ends."""


@dataclass(slots=True)
class WatchedJob:
    """A job as a strategy sees it, and the time at which it really ends."""

    kind: str
    order: int
    accepted: float
    ends: float
    pending: float | None = None
    polls: int = 0


@dataclass
class Watch:
    """What a strategy spent: lists with one entry per job, in the order of acceptance."""

    polls: list[int]
    """Polls of each job."""
    lag_s: list[float]
    """Seconds from a job's end until a poll saw it done."""
    calls: int = 0
    """Calls of the strategy's methods."""
    exchange_s: list[float] = field(default_factory=list)
    """Exchange rate in seconds of lag per poll when each job was seen done; 0 if the strategy had none."""

    def mean_polls(self, since: int = 0) -> float:
        """Return the mean polls of the jobs from `since` on."""
        return sum(self.polls[since:]) / len(self.polls[since:])

    def mean_lag_s(self, since: int = 0) -> float:
        """Return the mean lag of the jobs from `since` on, in seconds."""
        return sum(self.lag_s[since:]) / len(self.lag_s[since:])

    def mean_exchange_s(self, since: int = 0) -> float:
        """Return the mean exchange rate of the jobs from `since` on, in seconds of lag per poll."""
        return sum(self.exchange_s[since:]) / len(self.exchange_s[since:])

    def cost_s(self, exchange_s: float, since: int = 0) -> float:
        """Return the mean cost of a job in seconds of lag, at one exchange rate for all."""
        return exchange_s * self.mean_polls(since) + self.mean_lag_s(since)

    def cost_at_rates_s(self, exchange_s: Sequence[float]) -> float:
        """Return the mean cost of a job in seconds of lag, each job at an exchange rate of its own."""
        spent_s = sum(rate * polls for rate, polls in zip(exchange_s, self.polls, strict=True))
        return spent_s / len(self.polls) + self.mean_lag_s()


def watch(
    policy: Polling,
    jobs: Jobs,
    kinds: Sequence[str] = ("kind",),
    rate: float = math.inf,
) -> Watch:
    """Follow jobs until every one is seen done, and return what that took.

    At most `rate` polls start per second; those that are due longest go first. Job n has kind n modulo the
    number of kinds.
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
            seen.polls[n], seen.lag_s[n] = job.polls, now - job.ends
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
    """Return jobs that are accepted at even intervals and do not wait for each other."""
    return [(n * spacing_s, n * spacing_s + latency) for n, latency in enumerate(latencies)]


def queued(accepted: Iterable[float], services: Iterable[float], slots: int) -> Jobs:
    """Return jobs that are served in the order of acceptance, `slots` at a time."""
    free = [0.0] * slots
    jobs: Jobs = []
    for at, service in zip(accepted, services, strict=True):
        ends = max(at, heapq.heappop(free)) + service
        heapq.heappush(free, ends)
        jobs.append((at, ends))
    return jobs
