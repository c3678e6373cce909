"""A rule of admission for rates: how fast exchanges may start, closed and slowed by what the service says."""

from __future__ import annotations

import math
from typing import Final

from runner.policy.admission import Effect, Exchange
from runner.policy.retry import LONGEST_RETRY_AFTER_S

DEFAULT_WAIT_S: Final = 1.0
"""How long the gate closes when a throttled answer names no time, in seconds."""
OVERLOAD_SHARE: Final = 0.5
"""Share of refusals in an episode at or above which it is taken for a rate limit, not for noise."""
FAST_GROWTH_PER_S: Final = 2.0
"""Factor per second by which the rate grows while the limit is being searched for."""
FAST_DECREASE: Final = 0.5
"""Factor applied to the rate at the first refusal after fast growth: one second of growth is taken back."""
SLOW_GROWTH_PER_S: Final = 1.02
"""Factor per second by which the rate grows once the limit has been found."""
SLOW_DECREASE: Final = 0.9
"""Factor applied to the rate at each further refusal."""
FORGET_AFTER_S: Final = 60.0
"""Seconds without a refusal after which a learned rate is dropped: the service has room again."""
SLOWEST_PER_S: Final = 1.0
"""Lowest rate that is learned, per second: an episode without any acceptance must not stop the run."""
BURST_S: Final = 0.05
"""How far behind its schedule a late event loop may catch up at once, in seconds."""


class RateGate:
    """Paces the start of exchanges, and closes while the service asks to wait; one gate for all workers.

    A throttled answer closes the gate until the longest wait that was asked for is over. All answers that
    bring the same news form one *episode*. What follows depends on the share of exchanges that the episode
    refused:

    - Most of them: the service has a rate limit. Exchanges are paced from then on, first at the rate of
      acceptances over the whole episode, its wait included, which is not above the limit. The rate then
      grows fast until the next refusal, and slowly from there. So does TCP (V. Jacobson, "Congestion
      Avoidance and Control", 1988), except that growth is multiplicative throughout, because limits span
      decades, and that no decrease goes below the rate that was just measured.
    - A few among many acceptances: noise. The gate closes for the wait, but learns no rate from it.
    """

    def __init__(self, max_rate_per_s: float | None = None) -> None:
        self.episodes = 0
        """Episodes so far: times that the gate was closed by a throttled answer."""
        self._max_rate_per_s = max_rate_per_s
        self._learned_per_s: float | None = None
        self._learned_mono = 0.0
        self._growth_per_s = FAST_GROWTH_PER_S
        self._next_mono = 0.0
        self._closed_mono = -math.inf
        self._closed_until_mono = -math.inf
        self._is_closed = False
        self._began_mono: float | None = None
        self._accepted = 0
        self._refused = 0

    def __repr__(self) -> str:
        facts = ["closed" if self._is_closed else "open", f"{self.episodes} episodes"]
        for name, rate_per_s in (("at most", self._max_rate_per_s), ("learned", self._learned_per_s)):
            if rate_per_s is not None:
                facts.append(f"{name} {rate_per_s:.3g}/s")
        return f"<RateGate {', '.join(facts)}>"

    def opens_at(self, now_mono: float) -> float:
        """Return the time from which the next exchange may start; not after `now_mono` means at once."""
        if self._is_closed and now_mono >= self._closed_until_mono:
            self._reopen()
        if self._learned_per_s is None and self._max_rate_per_s is None:  # as a rule: exchanges are not paced
            return self._closed_until_mono
        if self._rate(now_mono):
            return max(self._closed_until_mono, self._next_mono)
        return self._closed_until_mono

    def started(self, now_mono: float) -> None:
        """Use up one slot of the schedule."""
        if self._began_mono is None:
            self._began_mono = now_mono
        if self._learned_per_s is None and self._max_rate_per_s is None:
            return
        rate = self._rate(now_mono)
        if rate:
            # Absolute, so that late wake-ups do not add up to a lower rate.
            self._next_mono = max(self._next_mono, now_mono - BURST_S) + 1.0 / rate

    def dropped(self) -> None:
        """Leave the slot used up: at worst the next exchange starts a little later than it could."""

    def ended(self, exchange: Exchange) -> bool:
        """Record an acceptance or a refusal; return False, because neither lets others start earlier."""
        if exchange.effect is Effect.ANSWERED:
            self._accepted += 1
        elif exchange.effect is Effect.THROTTLED:
            self._refuse(exchange)
        return False

    def _refuse(self, exchange: Exchange) -> None:
        """Close the gate for as long as a throttled answer asks."""
        now_mono, sent_mono = exchange.ended_mono, exchange.started_mono
        if self._is_closed and now_mono >= self._closed_until_mono:
            self._reopen()
        asked_s = DEFAULT_WAIT_S if exchange.wait_s is None else exchange.wait_s
        wait_s = min(max(asked_s, 0.0), LONGEST_RETRY_AFTER_S)
        self._closed_until_mono = max(self._closed_until_mono, now_mono + wait_s)
        if self._began_mono is None or sent_mono >= self._began_mono:
            self._refused += 1  # sent earlier, it would belong to an episode that is judged already
        if not self._is_closed and sent_mono > self._closed_mono:
            self._is_closed = True
            self._closed_mono = now_mono
            self.episodes += 1

    def _reopen(self) -> None:
        """Open the gate, whose wait is over, at the rate that the episode showed."""
        reopened_mono = self._closed_until_mono
        began_mono = reopened_mono if self._began_mono is None else self._began_mono
        measured = max(self._accepted / max(reopened_mono - began_mono, 1e-3), SLOWEST_PER_S)
        rate = self._learned(self._closed_mono)
        if self._refused >= OVERLOAD_SHARE * (self._accepted + self._refused):
            self._learned_per_s = measured
            self._growth_per_s = FAST_GROWTH_PER_S
        elif rate is not None:
            decrease = FAST_DECREASE if self._growth_per_s == FAST_GROWTH_PER_S else SLOW_DECREASE
            self._learned_per_s = max(rate * decrease, measured)
            self._growth_per_s = SLOW_GROWTH_PER_S
        self._learned_mono = self._began_mono = reopened_mono
        self._next_mono = reopened_mono + BURST_S  # what was not sent during the wait is not made up for
        self._is_closed = False
        self._accepted = self._refused = 0

    def _rate(self, now_mono: float) -> float | None:
        """Return the rate in force, per second, or None while exchanges are not paced."""
        if self._learned_per_s is None:
            return self._max_rate_per_s
        learned = self._learned(now_mono)
        if learned is None or self._max_rate_per_s is None:
            return learned or self._max_rate_per_s
        return min(learned, self._max_rate_per_s)

    def _learned(self, now_mono: float) -> float | None:
        """Return the learned rate, grown since the last episode, or None if none is remembered."""
        if self._learned_per_s is None:
            return None
        calm_s = max(now_mono - self._learned_mono, 0.0)
        if calm_s > FORGET_AFTER_S:
            self._learned_per_s = None
            return None
        return self._learned_per_s * math.pow(self._growth_per_s, calm_s)
