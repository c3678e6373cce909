"""CPU that a polling strategy takes, without the virtual clock that drives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from runner.policy.polling import Followed, Polling
from scripts.lib.bench.polling.optimum import LATENCIES
from scripts.lib.bench.polling.stationary import SPACING_S
from scripts.lib.bench.polling.strategies import PollingGoals, adaptive, backing_off
from scripts.lib.bench.polling.virtual_time import Jobs, Watch, spaced, watch

STRATEGIES: dict[str, Callable[[], Polling]] = {"exponential": backing_off, "adaptive": adaptive}


class Replay:
    """Records the decisions of a strategy, and repeats them at no cost after `rewind`."""

    def __init__(self, policy: Polling) -> None:
        self._policy = policy
        self._decisions: list[float] = []
        self._next: Iterator[float] | None = None

    def rewind(self) -> None:
        """Repeat the recorded decisions from now on."""
        self._next = iter(self._decisions)

    def next_poll(self, job: Followed, now: float) -> float:
        """Return the strategy's decision, from the record if there is one."""
        if self._next:
            return next(self._next)
        self._decisions.append(self._policy.next_poll(job, now))
        return self._decisions[-1]

    def started(self, job: Followed, late_s: float) -> None:
        """Pass the event to the strategy while its decisions are recorded."""
        if not self._next:
            self._policy.started(job, late_s)

    def saw_pending(self, job: Followed, at: float) -> None:
        """Pass the event to the strategy while its decisions are recorded."""
        if not self._next:
            self._policy.saw_pending(job, at)

    def saw_done(self, job: Followed, by: float) -> None:
        """Pass the event to the strategy while its decisions are recorded."""
        if not self._next:
            self._policy.saw_done(job, by)


def timed_watch(policy: Polling, jobs: Jobs) -> tuple[float, Watch]:
    """Follow jobs, and return the CPU seconds that this took and what was seen."""
    before_s = time.process_time()
    seen = watch(policy, jobs)
    return time.process_time() - before_s, seen


def policy_cpu(count: int, seed: int, goals: PollingGoals) -> list[list[str]]:
    """Return a table of the CPU of each strategy, learning included.

    It is the CPU of a run with the strategy minus that of the same run with recorded decisions.
    """
    jobs = spaced(LATENCIES["lognormal 0.5"].draws(count, seed), SPACING_S)
    rows = []
    for name, make in STRATEGIES.items():
        replay = Replay(make())
        watch(replay, jobs)
        replay.rewind()
        clock_s, _ = timed_watch(replay, jobs)
        whole_s, seen = timed_watch(make(), jobs)
        per_job, per_poll = ((whole_s - clock_s) * 1e6 / n for n in (count, sum(seen.polls)))
        share = whole_s / clock_s - 1
        rows.append([name, f"{seen.mean_polls():.1f}", f"{per_job:.1f}", f"{per_poll:.2f}", f"{share:.2f}"])
        if name == "adaptive":
            goals.add("CPU µs per poll and completion", name, per_poll, 5.0)
    return rows
