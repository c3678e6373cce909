"""Virtual time: a token bucket behind a gate, and jobs behind a polling strategy. No clock is read here."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from runner.policy.limiter import Gate
from runner.policy.polling import Polling


@dataclass
class Traffic:
    """What came of a simulation of a gate."""

    accepted_at: list[float] = field(default_factory=list)
    throttled: int = 0
    started_at: list[float] = field(default_factory=list)
    allowed_from: float = 0.0
    too_early: int = 0

    def per_s(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.accepted_at) / (until - since)


def _through_gate(
    gate: Gate,
    *,
    rate: float | Callable[[float], float],
    burst: float,
    seconds: float = 60.0,
    workers: int = 200,
    latency_s: float = 0.05,
    retry_after_s: float | None = None,
    late_s: float = 0.001,
) -> Traffic:
    """`workers` send without a pause to a token bucket; it answers 429 with whole seconds, at least one.

    `late_s` is how much later than asked the loop wakes.
    """
    rate_at = rate if callable(rate) else lambda now: rate
    traffic, now, ready, number = Traffic(), 0.0, workers, 0
    tokens, filled = burst, 0.0
    events: list[tuple[float, int, str, float, float]] = []
    while now < seconds:
        while ready and gate.opens_at(now) <= now:
            gate.started(now)
            ready -= 1
            number += 1
            traffic.started_at.append(now)
            traffic.too_early += now < traffic.allowed_from
            heapq.heappush(events, (now + latency_s / 2, number, "arrives", now, 0.0))
        wakes = max(gate.opens_at(now), now) + late_s if ready else math.inf
        now = min(wakes, events[0][0] if events else math.inf)
        while events and events[0][0] <= now:
            at, n, what, sent, wait = heapq.heappop(events)
            if what == "arrives":
                tokens = min(burst, tokens + (at - filled) * rate_at(at))
                filled = at
                good = tokens >= 1
                tokens -= good
                wait = math.ceil((1 - tokens) / rate_at(at)) if retry_after_s is None else retry_after_s
                heapq.heappush(events, (at + latency_s / 2, n, "yes" if good else "no", sent, wait))
                continue
            ready += 1
            if what == "yes":
                gate.accepted()
                traffic.accepted_at.append(at)
            else:
                traffic.throttled += 1
                traffic.allowed_from = max(traffic.allowed_from, at + wait)
                gate.throttled(at, sent, wait)
    return traffic


@pytest.fixture
def through_gate() -> Callable[..., Traffic]:
    return _through_gate


@dataclass
class Watch:
    """What a strategy spent: one entry a job, in the order of submission."""

    looks: list[int]
    lag_s: list[float]

    def mean_looks(self, since: int = 0) -> float:
        return sum(self.looks[since:]) / len(self.looks[since:])

    def mean_lag_s(self, since: int = 0) -> float:
        return sum(self.lag_s[since:]) / len(self.lag_s[since:])


def _watch(policy: Polling, latencies: Iterable[float], spacing_s: float = 0.0, kind: str = "kind") -> Watch:
    """Follow jobs submitted `spacing_s` apart until each is seen done; every look is at the age asked for."""
    jobs = list(latencies)
    watch = Watch([0] * len(jobs), [0.0] * len(jobs))
    due: list[tuple[float, int, int, float]] = [(n * spacing_s, n, -1, 0.0) for n in range(len(jobs))]
    while due:
        now, n, looks, seen_s = heapq.heappop(due)
        start = n * spacing_s
        age_s = now - start if looks >= 0 else 0.0
        looks += 1
        if looks:
            if age_s >= jobs[n]:
                policy.saw_done(kind, seen_s, age_s)
                watch.looks[n], watch.lag_s[n] = looks, age_s - jobs[n]
                continue
            policy.saw_pending(kind, seen_s, age_s)
            seen_s = age_s
        next_s = policy.next_look(kind, age_s, looks)
        assert next_s > age_s
        heapq.heappush(due, (start + next_s, n, looks, seen_s))
    return watch


@pytest.fixture
def watch() -> Callable[..., Watch]:
    return _watch


@pytest.fixture
def latencies() -> dict[str, Callable[[Any], float]]:
    """Distributions of job latency, each drawn from a `random.Random`."""
    return {
        "lognormal": lambda r: r.lognormvariate(math.log(339) - 0.125, 0.5),
        "bimodal": lambda r: (
            r.lognormvariate(math.log(20), 0.2) if r.random() < 0.8 else r.lognormvariate(math.log(600), 0.2)
        ),
        "uniform": lambda r: r.uniform(10, 600),
        "constant": lambda r: 10.0,
    }
