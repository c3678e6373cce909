"""The strategy that learns, per kind of job, when completions come, and looks where they come."""

from __future__ import annotations

import math
from typing import Final

from runner.policy.polling.front import Front
from runner.policy.polling.hazard import Hazard, Interval
from runner.policy.polling.lateness import LatenessFeedback
from runner.policy.polling.schedule import Schedule, optimum
from runner.policy.polling.strategy import Exponential, Followed, last_seen

ENOUGH_COMPLETIONS: Final = 30
"""Completions of a kind before its learned schedule is used."""
FRESH_SHARE: Final = 0.2
"""It is made anew after this share of those seen has come in addition: often while little is known."""
MOST_FRESH: Final = 300
"""But after so many at the latest, lest a change of the service go unnoticed for long."""
SHORTEST_GAP_S: Final = 0.001
"""Between two looks at a job: what a timer of the event loop resolves."""
GOLDEN: Final = 0.6180339887498949
"""Its multiples modulo 1 are the most evenly spread sequence there is (Weyl; three-gap theorem)."""
DEAREST: Final = 0.5
"""A look is never taken to be worth more lag than this share of the mean lag aimed at: for a burst narrower
than that aim one look is nearly enough, and a dearer one would wait for all stragglers."""
RECENT: Final = 300
"""Completions over which their mean age is taken, for jobs that wait in line."""
FAR_OFF: Final = 2.0
"""A look that is farther off than so many times the lag aimed at is thought over half-way."""
MOST_UNSEEN: Final = 0.1
"""While more jobs than this share outlast what was watched, looks are no closer than by backing off."""
LATE_SHARE: Final = 0.1
"""A job later than nearly all is looked at again after this share of its distance from the median."""
UNLOOKED: Final = 1.0
"""The front puts a look off by at most so many times the job's age, or the mean age of those done."""
FRONT_AHEAD: Final = 0.2
"""The front is believed while it makes completions so much more probable (mean difference of logarithms)."""
MOST_DONE: Final = 0.4
"""By the front, the first look comes before more than this share of jobs is done: if all are, nothing tells
since when, and the front itself is lost."""
SCORED: Final = 32
"""Completions on which the two views are compared, each time: the youngest."""
ESTABLISHED: Final = 500
"""Completions (faded) after which a kind that age tells of is settled, and asked less of."""
SAMPLE: Final = 4
"""Every so many-th job of a settled kind is enough to see a front come up."""
_LATER: Final = [0.01 * 1.12**k for k in range(200)]
"""Ages, 12 % apart: as fine as a schedule for the first 30 completions can make use of."""
_FAR: Final = [0.01 * 1.3**k for k in range(86)]
"""Distances from the front, 30 % apart, to either side."""
AGE_EDGES: Final = [0.0, *_LATER]
"""Cells by age until the first completions tell where they are needed: from 10 ms to two years."""
FRONT_EDGES: Final = [*(-edge for edge in reversed(_FAR)), 0.0, *_FAR]
"""Such cells by distance from the front."""


class Adaptive:
    """Learns from interval-censored completions and follows the optimum checking schedule for them.

    A job's time is told either by its age or by its distance from the moving front of a queue, whichever
    has made recent completions more probable before they were seen (their prequential score; Dawid, J. R.
    Statist. Soc. A 147, 1984). For either, the hazard is learned and the optimum schedule is made in the
    same way, at the exchange rate between looks and lag that brings the wanted mean lag. Where too little
    is known it backs off exponentially.
    """

    def __init__(self, fallback: Exponential, lag_target: float = 0.05) -> None:
        self._fallback = fallback
        self._lag_target = lag_target
        self._strain = LatenessFeedback()
        self._kinds: dict[str, _Kind] = {}

    def next_poll(self, job: Followed, now: float) -> float:
        """By the learned schedule, within what is known; else by backing off."""
        kind = self._kinds.get(job.kind)
        if kind is None:
            return self._fallback.next_poll(job, now)
        view, origin = kind.view_of(job)
        if view.schedule is None:
            return self._fallback.next_poll(job, now)
        seen = job.accepted if job.pending is None else job.pending
        # Golden-ratio steps spread looks evenly, whatever the order.
        offset = 2 * ((job.order + job.polls * 0.37) * GOLDEN % 1.0) - 1
        look = origin + view.schedule.next_poll(seen - origin, offset)
        hazard = view.hazard
        if (
            look > origin + hazard.known
            or not origin <= seen <= origin + hazard.late
            or hazard.unseen > MOST_UNSEEN
        ):
            look = view.doubted(look, origin, job, self._fallback.next_poll(job, now))
        look = max(look, seen + SHORTEST_GAP_S)
        if look - now > FAR_OFF * view.lag_aim_s and not kind.is_settled:
            return now + (look - now) / 2
        return look

    def started(self, job: Followed, late_s: float) -> None:
        """Late looks are a reason to plan fewer."""
        kind = self._kinds.get(job.kind)
        if kind is not None and kind.view.schedule:
            self._strain.saw(late_s, kind.view.lag_aim_s)

    def saw_pending(self, job: Followed, at: float) -> None:
        """Time at risk, for the hazard."""
        seen = job.accepted if job.pending is None else job.pending
        self._of(job.kind).expose(job, seen, at)

    def saw_done(self, job: Followed, by: float) -> None:
        """A completion; after enough of them the schedule of its kind is made anew."""
        seen = job.accepted if job.pending is None else job.pending
        kind = self._of(job.kind)
        kind.complete(job, seen, max(by, seen + 1e-9))
        if kind.is_due():
            self._strain.learned(len(self._kinds))
            kind.learn(self._lag_target, self._strain.factor)

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
        """A completion between two positions."""
        self.fresh.append((after, by))
        self._seen_age_s += (age_s - self._seen_age_s) / min(self.hazard.seen + len(self.fresh), RECENT)

    def score(self) -> float:
        """Mean logarithm of the probability that recent completions had before they were seen."""
        part = self.fresh[-SCORED:]
        return sum(math.log(self.hazard.probability(*interval)) for interval in part) / len(part)

    def doubted(self, look: float, origin: float, job: Followed, fallback: float) -> float:
        """`look`, kept within the bounds of what is known."""
        hazard, seen = self.hazard, last_seen(job)
        if look > origin + hazard.known:
            # No job has been watched to there yet: early completions say nothing of late ones.
            look = min(look, max(fallback, origin + hazard.known))
        if seen > origin + hazard.late:
            # Few were as late as this one: what is learned of them is not much.
            look = min(look, max(fallback, seen + LATE_SHARE * (seen - origin - hazard.middle)))
        if seen < origin:
            # The front may stand still or be lost, and only looks can tell.
            look = min(look, max(fallback, seen + UNLOOKED * max(seen - job.accepted, self.mean_s)))
        if hazard.unseen > MOST_UNSEEN:
            # How long jobs take on the whole is not known yet, nor what a look is worth.
            look = max(look, fallback)
        return look

    def learn(self) -> None:
        """Take in the completions that are new."""
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
                hazard.edges[hazard.first :],
                hazard.hazards[hazard.first :],
                self.exchange_s,
                MOST_DONE if self.is_of_front else 1.0,
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
        self.is_settled = False
        """Age tells when jobs are done, and enough of it is known."""
        self._front_ahead = 0.0

    def view_of(self, job: Followed) -> tuple[_View, float]:
        """The one that tells most, and the job's origin in it."""
        if self.view is self.by_front:
            expected = self.front.expects(job.order)
            if expected is not None:
                return self.by_front, expected
        return self.by_age, job.accepted

    def expose(self, job: Followed, start: float, stop: float) -> None:
        """The job was pending from one time to another."""
        self.by_age.hazard.expose(start - job.accepted, stop - job.accepted)
        if self._is_sampled(job) and (expected := self.front.expects(job.order)) is not None:
            self.by_front.hazard.expose(start - expected, stop - expected)

    def complete(self, job: Followed, after: float, by: float) -> None:
        """The job was done between two times."""
        age_s = by - job.accepted
        self.by_age.saw(after - job.accepted, age_s, age_s)
        expected = self.front.expects(job.order)
        if expected is not None:
            if self._is_sampled(job):
                self.by_front.saw(after - expected, by - expected, age_s)
            # Long before anything was seen to be done it was not done either.
            after = min(max(after, expected + self.by_front.hazard.earliest), by)
        self.front.saw(job.order, (after + by) / 2)

    def _is_sampled(self, job: Followed) -> bool:
        """To keep an eye on the other view, a part of the jobs does."""
        return not self.is_settled or not job.order % SAMPLE

    def is_due(self) -> bool:
        """Has enough come since the last time to learn from?"""
        seen = self.by_age.hazard.seen
        return len(self.by_age.fresh) >= min(max(ENOUGH_COMPLETIONS, FRESH_SHARE * seen), MOST_FRESH)

    def learn(self, lag_target: float, strain: float) -> None:
        """Judge the two views, and make the schedule of the better one. Late looks leave a front in sight."""
        front_is_known = self.front.expects(0) is not None and len(self.by_front.fresh) >= 10
        if front_is_known and self.by_front.hazard.seen and self.by_age.hazard.seen:
            ahead = self.by_front.score() - self.by_age.score()
            self._front_ahead += 0.5 * (ahead - self._front_ahead)
        self.by_age.learn()
        if front_is_known:
            self.by_front.learn()
        self.view = self.by_front if front_is_known and self._front_ahead > FRONT_AHEAD else self.by_age
        self.is_settled = self.view is self.by_age and self.by_age.hazard.seen > ESTABLISHED
        self.view.plan(lag_target if self.view.is_of_front else lag_target * strain)
