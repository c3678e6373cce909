"""Learning about one kind of job: two views of its completions, and which of them predicts better."""

from __future__ import annotations

from typing import Final

from runner.policy.polling.front import Front
from runner.policy.polling.strategy import Followed
from runner.policy.polling.view import View

ENOUGH_COMPLETIONS: Final = 30
"""Completions of a kind before its first schedule is made."""
RELEARN_SHARE: Final = 0.2
"""New completions after which a schedule is made again, as a share of those before: often at first."""
RELEARN_AFTER: Final = 300
"""New completions after which a schedule is made again at the latest, so that changes are noticed."""
ENOUGH_BY_FRONT: Final = 10
"""New completions by distance from the front that are enough to compare the views."""
FRONT_LEAD: Final = 0.2
"""Lead in score from which the front is believed: mean difference of the logarithms of probabilities."""
SETTLED_AFTER: Final = 500
"""Completions (older ones faded) after which a kind is settled if age predicts them; it costs less CPU."""
SAMPLE_EVERY: Final = 4
"""Jobs of a settled kind per one that is still learned from: enough to notice that a front comes up."""


class Kind:
    """Learns when jobs of one kind complete, by age and by the front of a queue.

    The better view is the one that made recent completions more probable before they were seen: their
    prequential score (A. P. Dawid, Journal of the Royal Statistical Society A 147, 1984).
    """

    def __init__(self) -> None:
        self._front = Front()
        self._by_age = View(is_by_front=False)
        self._by_front = View(is_by_front=True)
        self._front_lead = 0.0
        self.view = self._by_age
        """The view that predicts better."""
        self.is_settled = False
        """Whether age predicts completions, and enough of them are known."""

    def view_of(self, job: Followed) -> tuple[View, float]:
        """Return the view to plan the job's polls by, and the job's origin in it, in Unix seconds."""
        if self.view is self._by_front:
            expected = self._front.expects(job.order)
            if expected is not None:
                return self._by_front, expected
        return self._by_age, job.accepted

    def expose(self, job: Followed, start: float, stop: float) -> None:
        """Take in that the job was pending from one Unix time to another."""
        self._by_age.hazard.tally.expose(start - job.accepted, stop - job.accepted)
        if self._is_sampled(job) and (expected := self._front.expects(job.order)) is not None:
            self._by_front.hazard.tally.expose(start - expected, stop - expected)

    def complete(self, job: Followed, after: float, by: float) -> None:
        """Take in that the job completed between two Unix times."""
        age_s = by - job.accepted
        self._by_age.record(after - job.accepted, age_s, age_s)
        expected = self._front.expects(job.order)
        if expected is not None:
            if self._is_sampled(job):
                self._by_front.record(after - expected, by - expected, age_s)
            # Nothing completes long before the front, so the interval can begin later.
            after = min(max(after, expected + self._by_front.hazard.earliest), by)
        self._front.record(job.order, (after + by) / 2)

    def is_due(self) -> bool:
        """Return whether enough completions are new to learn from."""
        seen = self._by_age.hazard.seen
        return len(self._by_age.fresh) >= min(max(ENOUGH_COMPLETIONS, RELEARN_SHARE * seen), RELEARN_AFTER)

    def learn(self, lag_target: float, lateness: float) -> None:
        """Choose the better view, and make its schedule again.

        `lag_target` is a share of the mean age at completion. By age it is multiplied by `lateness`; by the
        front it is not, because fewer polls would lose sight of the front.
        """
        by_age, by_front = self._by_age, self._by_front
        front_is_known = self._front.expects(0) is not None and len(by_front.fresh) >= ENOUGH_BY_FRONT
        if front_is_known and by_front.hazard.seen and by_age.hazard.seen:
            self._front_lead += 0.5 * (by_front.score() - by_age.score() - self._front_lead)
        by_age.learn()
        if front_is_known:
            by_front.learn()
        self.view = by_front if front_is_known and self._front_lead > FRONT_LEAD else by_age
        self.is_settled = self.view is by_age and by_age.hazard.seen > SETTLED_AFTER
        self.view.plan(lag_target if self.view is by_front else lag_target * lateness)

    def _is_sampled(self, job: Followed) -> bool:
        """Return whether the job counts by distance from the front; of a settled kind only some do."""
        return not self.is_settled or not job.order % SAMPLE_EVERY
