"""The polling strategy that learns, for each kind of job, when completions come, and polls where they come.

Read `kind.py` next, then `view.py`, `hazard.py` and `schedule.py`.
"""

from __future__ import annotations

from typing import Final

from runner.policy.polling.kind import Kind
from runner.policy.polling.lateness import LatenessFeedback
from runner.policy.polling.strategy import Exponential, Followed, last_seen

FAR_AHEAD: Final = 2.0
"""A poll planned further ahead than this many lag targets is planned again half-way there."""


class Adaptive:
    """Learns the hazard of completion from polls, and follows the optimum checking schedule for it.

    A poll tells only that a job completed since the one before, or that it is still pending: the data are
    interval-censored. From them the hazard of each kind of job is estimated, by age or by distance from the
    moving front of a queue, whichever predicts better. The schedule is the optimum for that hazard, at the
    exchange rate between polls and lag at which the mean lag is `lag_target` of the mean time to complete.
    Where too little is known, `fallback` decides.
    """

    def __init__(self, fallback: Exponential, lag_target: float = 0.05) -> None:
        self._fallback = fallback
        self._lag_target = lag_target
        self._lateness = LatenessFeedback()
        self._kinds: dict[str, Kind] = {}

    def next_poll(self, job: Followed, now: float) -> float:
        """Return when to poll the job: by the learned schedule within what is known, else by backing off."""
        kind = self._kinds.get(job.kind)
        if kind is None:
            return self._fallback.next_poll(job, now)
        view, origin = kind.view_of(job)
        due = view.next_poll(job, origin, now, self._fallback)
        if due - now > FAR_AHEAD * view.lag_target_s and not kind.is_settled:
            return now + (due - now) / 2
        return due

    def started(self, job: Followed, late_s: float) -> None:
        """Take in how late the poll is: late polls are a reason to plan fewer."""
        kind = self._kinds.get(job.kind)
        if kind is not None and kind.view.schedule:
            self._lateness.record(late_s, kind.view.lag_target_s)

    def saw_pending(self, job: Followed, at: float) -> None:
        """Take in the time at risk since the poll before."""
        self._kind(job.kind).expose(job, last_seen(job), at)

    def saw_done(self, job: Followed, by: float) -> None:
        """Take in a completion, and after enough of them make the schedule of its kind again."""
        seen = last_seen(job)
        kind = self._kind(job.kind)
        kind.complete(job, seen, max(by, seen + 1e-9))
        if kind.is_due():
            self._lateness.replanning(len(self._kinds))
            kind.learn(self._lag_target, self._lateness.factor)

    def exchange_s(self, kind: str) -> float | None:
        """Return the seconds of lag that one poll of this kind is worth; None while nothing is learned."""
        known = self._kinds.get(kind)
        return known.view.exchange_s if known and known.view.schedule else None

    def _kind(self, name: str) -> Kind:
        return self._kinds.get(name) or self._kinds.setdefault(name, Kind())
