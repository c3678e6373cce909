"""The strategy that learns, per kind of job, when completions come, and looks where they come."""

from __future__ import annotations

import math
from typing import Final

from runner.policy.polling.front import Front
from runner.policy.polling.hazard import Hazard, Interval
from runner.policy.polling.schedule import Schedule, optimum
from runner.policy.polling.strategy import Exponential, Followed

ENOUGH_COMPLETIONS: Final = 30
"""Completions of a kind before its learned schedule is used."""
FRESH_SHARE: Final = 0.15
MOST_FRESH: Final = 250
"""Completions until it is made anew: a share of those seen, so that learning costs little, and no more."""
GOLDEN: Final = 0.6180339887498949
LONGEST_S: Final = 40 * 86_400.0
FIRST_EDGE_S: Final = 0.01
_LATER: Final = [FIRST_EDGE_S * 1.12**k for k in range(200)]
_FAR: Final = [FIRST_EDGE_S * 1.3**k for k in range(86)]
AGE_EDGES: Final = [0.0, *_LATER]
FRONT_EDGES: Final = [*(-edge for edge in reversed(_FAR)), 0.0, *_FAR]
MOST_UNSEEN: Final = 0.1
RECENT: Final = 300
DEAREST: Final = 0.5
UNLOOKED: Final = 1.0
LATE_SHARE: Final = 0.1
SCORED: Final = 32
FRONT_AHEAD: Final = 0.2
"""The front is believed while it makes completions so much more probable (mean difference of logarithms)."""


class Adaptive:
    """Learns from interval-censored completions and follows the optimum checking schedule for them."""

    def __init__(self, fallback: Exponential, lag_target: float = 0.05) -> None:
        self._fallback = fallback
        self._lag_target = lag_target
        self._kinds: dict[str, _Kind] = {}

    def next_look(self, job: Followed, now: float) -> float:
        kind = self._kinds.get(job.kind)
        if kind is None:
            return self._fallback.next_look(job, now)
        view, origin = kind.view_of(job)
        if view.schedule is None:
            return self._fallback.next_look(job, now)
        seen = job.accepted if job.pending is None else job.pending
        # Golden-ratio steps spread looks evenly, whatever the order.
        offset = 2 * math.modf(abs(job.order + job.polls * 0.37) * GOLDEN)[0] - 1
        look = origin + view.schedule.next_look(seen - origin, offset)
        look = self._doubted(view.hazard, job, now, look, seen, origin, view.mean_s)
        look = max(look, seen + 1e-3)
        if look - now > 2 * view.lag_aim_s:
            return now + (look - now) / 2
        return look

    def _doubted(
        self,
        hazard: Hazard,
        job: Followed,
        now: float,
        look: float,
        seen: float,
        origin: float,
        mean_s: float,
    ) -> float:
        """`look`, within the bounds of what is known."""
        is_late, is_far = seen > origin + hazard.late, look > origin + hazard.known
        is_early = origin > seen
        if not is_late and not is_far and not is_early and hazard.unseen <= MOST_UNSEEN:
            return look
        fallback = self._fallback.next_look(job, now)
        if is_far:
            # No job has been watched to there yet: early completions say nothing of late ones.
            look = min(look, max(fallback, origin + hazard.known))
        if is_late:
            # Few were as late as this one: what is learned of them is not much.
            look = min(look, max(fallback, seen + LATE_SHARE * (seen - origin - hazard.middle)))
        if is_early:
            # The front may stand still or be lost, and only looks can tell.
            look = min(look, max(fallback, seen + UNLOOKED * max(seen - job.accepted, mean_s)))
        if hazard.unseen > MOST_UNSEEN:
            # How long jobs take on the whole is not known yet, nor what a look is worth.
            look = max(look, fallback)
        return look

    def saw_pending(self, job: Followed, at: float) -> None:
        seen = job.accepted if job.pending is None else job.pending
        self._of(job.kind).expose(job, seen, at)

    def saw_done(self, job: Followed, by: float) -> None:
        seen = job.accepted if job.pending is None else job.pending
        kind = self._of(job.kind)
        kind.complete(job, seen, max(by, seen + 1e-9))
        if kind.is_due():
            kind.learn(self._lag_target)

    def exchange_s(self, kind: str) -> float | None:
        """The lag that one look at a job of this kind is taken to be worth."""
        known = self._kinds.get(kind)
        return known.view.exchange_s if known and known.view.schedule else None

    def _of(self, kind: str) -> _Kind:
        return self._kinds.get(kind) or self._kinds.setdefault(kind, _Kind())


class _View:
    """One way to tell when a job will be done: how far it is from an origin, and the hazard by that."""

    def __init__(self, edges: list[float]) -> None:
        self.is_of_front = edges is FRONT_EDGES
        self.hazard = Hazard(edges)
        self.schedule: Schedule | None = None
        self.exchange_s = 0.0
        self.lag_aim_s = math.inf
        self.mean_s = self._seen_age_s = 0.0
        self.fresh: list[Interval] = []

    def saw(self, after: float, by: float, age_s: float) -> None:
        self.fresh.append((after, by))
        self._seen_age_s += (age_s - self._seen_age_s) / min(self.hazard.seen + len(self.fresh), RECENT)

    def score(self) -> float:
        part = self.fresh[-SCORED:]
        return sum(math.log(self.hazard.probability(*interval)) for interval in part) / len(part)

    def learn(self) -> None:
        self.hazard.learn(self.fresh)
        self.fresh = []

    def plan(self, lag_target: float) -> None:
        """Make the schedule for the exchange rate that brings the wanted lag."""
        hazard = self.hazard
        self.mean_s = max(self._seen_age_s if self.is_of_front else hazard.mean, 1e-3)
        self.lag_aim_s = lag_target * self.mean_s
        if self.schedule:
            tries = 2
        else:
            self.exchange_s, tries = self.lag_aim_s / 4, 6
        for _ in range(tries):
            self.schedule = optimum(
                hazard.edges[hazard.first :], hazard.hazards[hazard.first :], self.exchange_s
            )
            # Lag grows as the root of the exchange rate (Keller); less for what comes in a burst.
            change = (self.lag_aim_s / max(self.schedule.lag_s, 1e-9)) ** 2
            if 0.95 < change < 1.05:
                break
            self.exchange_s = min(self.exchange_s * min(max(change, 0.2), 5.0), DEAREST * self.lag_aim_s)


class _Kind:
    """What is known of one kind of job."""

    def __init__(self) -> None:
        self.front = Front()
        self.by_age = _View(AGE_EDGES)
        self.by_front = _View(FRONT_EDGES)
        self.view = self.by_age
        self._front_ahead = 0.0

    def view_of(self, job: Followed) -> tuple[_View, float]:
        """The one that tells most, and the job's origin in it."""
        if self.view is self.by_front:
            expected = self.front.expects(job.order)
            if expected is not None:
                return self.by_front, expected
        return self.by_age, job.accepted

    def expose(self, job: Followed, start: float, stop: float) -> None:
        self.by_age.hazard.expose(start - job.accepted, stop - job.accepted)
        expected = self.front.expects(job.order)
        if expected is not None:
            self.by_front.hazard.expose(start - expected, stop - expected)

    def complete(self, job: Followed, after: float, by: float) -> None:
        self.by_age.saw(after - job.accepted, by - job.accepted, by - job.accepted)
        expected = self.front.expects(job.order)
        if expected is not None:
            self.by_front.saw(after - expected, by - expected, by - job.accepted)
            # Long before anything was seen to be done it was not done either.
            after = min(max(after, expected + self.by_front.hazard.earliest), by)
        self.front.saw(job.order, (after + by) / 2)

    def is_due(self) -> bool:
        seen = self.by_age.hazard.seen
        return len(self.by_age.fresh) >= min(max(ENOUGH_COMPLETIONS, FRESH_SHARE * seen), MOST_FRESH)

    def learn(self, lag_target: float) -> None:
        front_is_known = self.front.expects(0) is not None and len(self.by_front.fresh) >= 10
        if front_is_known and self.by_front.hazard.seen and self.by_age.hazard.seen:
            ahead = self.by_front.score() - self.by_age.score()
            self._front_ahead += 0.5 * (ahead - self._front_ahead)
        self.by_age.learn()
        if front_is_known:
            self.by_front.learn()
        self.view = self.by_front if front_is_known and self._front_ahead > FRONT_AHEAD else self.by_age
        self.view.plan(lag_target)
