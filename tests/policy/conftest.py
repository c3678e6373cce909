"""Virtual time: a token bucket behind a gate. No clock is read here."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from runner.policy.admission import Effect, Exchange
from runner.policy.rate_gate import RateGate


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
    gate: RateGate,
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
                gate.ended(Exchange(sent, at, Effect.ANSWERED, None))
                traffic.accepted_at.append(at)
            else:
                traffic.throttled += 1
                traffic.allowed_from = max(traffic.allowed_from, at + wait)
                gate.ended(Exchange(sent, at, Effect.THROTTLED, wait))
    return traffic


@pytest.fixture
def through_gate() -> Callable[..., Traffic]:
    return _through_gate
