"""A token bucket behind a rate gate, in virtual time: no clock is read here."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.policy.admission import Effect, Exchange
from runner.policy.rate_gate import RateGate


@dataclass
class Bucket:
    """A service with a rate limit: tokens come in at `rate_at(now)` per second, `burst` of them at most."""

    rate_at: Callable[[float], float]
    burst: float

    def __post_init__(self) -> None:
        self._tokens, self._filled_at = self.burst, 0.0

    def take(self, now: float) -> bool:
        """Take one token, and return whether there was one."""
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate_at(now))
        self._filled_at = now
        is_accepted = self._tokens >= 1
        self._tokens -= is_accepted
        return is_accepted

    def whole_wait_s(self, now: float) -> float:
        """Return the wait for the next token in whole seconds, as most services name it."""
        return math.ceil((1 - self._tokens) / self.rate_at(now))


@dataclass
class Traffic:
    """What a simulation of a gate showed. Times are seconds from its start."""

    accepted_at: list[float] = field(default_factory=list)
    throttled: int = 0
    started_at: list[float] = field(default_factory=list)
    allowed_from: float = 0.0
    too_early: int = 0
    """Exchanges that started before the longest wait asked for was over."""

    def per_s(self, since: float, until: float) -> float:
        """Return the acceptances per second between two times."""
        return sum(since <= at < until for at in self.accepted_at) / (until - since)

    def start(self, now: float) -> None:
        """Record that an exchange starts."""
        self.started_at.append(now)
        self.too_early += now < self.allowed_from

    def end(self, exchange: Exchange) -> None:
        """Record what an exchange came to."""
        if exchange.effect is Effect.ANSWERED:
            self.accepted_at.append(exchange.ended_mono)
        else:
            self.throttled += 1
            self.allowed_from = max(self.allowed_from, exchange.ended_mono + (exchange.wait_s or 0.0))


def through_gate(
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
    """Let `workers` send without a pause, through a gate, to a token bucket that refuses with a wait.

    The wait is `retry_after_s`, or else in whole seconds. `late_s` is how much later than asked the loop
    wakes up.
    """
    bucket = Bucket(rate if callable(rate) else lambda _: rate, burst)
    traffic, now, ready, number = Traffic(), 0.0, workers, 0
    arrivals: list[tuple[float, int, float]] = []
    answers: list[tuple[float, int, Exchange]] = []
    while now < seconds:
        while ready and gate.opens_at(now) <= now:
            gate.started(now)
            traffic.start(now)
            ready -= 1
            number += 1
            heapq.heappush(arrivals, (now + latency_s / 2, number, now))
        wakes_at = max(gate.opens_at(now), now) + late_s if ready else math.inf
        now = min(wakes_at, *(events[0][0] for events in (arrivals, answers) if events), math.inf)
        while arrivals and arrivals[0][0] <= now:
            at, n, sent = heapq.heappop(arrivals)
            effect, wait_s = Effect.ANSWERED, None
            if not bucket.take(at):
                effect = Effect.THROTTLED
                wait_s = bucket.whole_wait_s(at) if retry_after_s is None else retry_after_s
            ended = at + latency_s / 2
            heapq.heappush(answers, (ended, n, Exchange(sent, ended, effect, wait_s)))
        while answers and answers[0][0] <= now:
            exchange = heapq.heappop(answers)[2]
            ready += 1
            gate.ended(exchange)
            traffic.end(exchange)
    return traffic
