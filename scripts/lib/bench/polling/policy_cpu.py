"""CPU that a polling strategy takes, apart from the virtual clock that drives it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from runner.policy.polling import Followed, Polling
from scripts.lib.bench.polling.optimum import LATENCIES
from scripts.lib.bench.polling.stationary import SPACING_S
from scripts.lib.bench.polling.strategies import Goals, adaptive, backing_off
from scripts.lib.bench.polling.virtual_time import Jobs, Watch, spaced, watch


class Played:
    """Gives the answers that another strategy gave, at no cost; without any, it takes them down."""

    def __init__(self, policy: Polling) -> None:
        self._policy = policy
        self._answers: list[float] = []
        self._next: Iterator[float] | None = None

    def rewind(self) -> None:
        self._next = iter(self._answers)

    def next_poll(self, job: Followed, now: float) -> float:
        if self._next:
            return next(self._next)
        self._answers.append(self._policy.next_poll(job, now))
        return self._answers[-1]

    def started(self, job: Followed, late_s: float) -> None:
        if not self._next:
            self._policy.started(job, late_s)

    def saw_pending(self, job: Followed, at: float) -> None:
        if not self._next:
            self._policy.saw_pending(job, at)

    def saw_done(self, job: Followed, by: float) -> None:
        if not self._next:
            self._policy.saw_done(job, by)


def cpu_s(policy: Polling, jobs: Jobs) -> tuple[float, Watch]:
    began = time.process_time()
    seen = watch(policy, jobs)
    return time.process_time() - began, seen


def cpu(count: int, seed: int, goals: Goals) -> list[list[str]]:
    """CPU of a strategy, learning included: a run with it, less the same run with its answers given."""
    jobs = spaced(LATENCIES["lognormal 0.5"].draws(count, seed), SPACING_S)
    rows = []
    for name, make in {"exponential": backing_off, "adaptive": adaptive}.items():
        played = Played(make())
        watch(played, jobs)
        played.rewind()
        virtual_s, _ = cpu_s(played, jobs)
        whole_s, seen = cpu_s(make(), jobs)
        per_job, per_look = ((whole_s - virtual_s) * 1e6 / n for n in (count, sum(seen.looks)))
        share = whole_s / virtual_s - 1
        rows.append([name, f"{seen.mean_looks():.1f}", f"{per_job:.1f}", f"{per_look:.2f}", f"{share:.2f}"])
        if name == "adaptive":
            goals.add("CPU µs per look and completion", name, per_look, 5.0)
    return rows
