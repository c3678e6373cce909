"""Courses of a run that are not stationary: when jobs are accepted, when each ends, and its kind."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scripts.lib.bench.polling.optimum import LATENCIES, lognormal
from scripts.lib.bench.polling.virtual_time import Jobs, queued, spaced

SERVICE = lognormal(30, 0.5)
"""Time that the service works on a job, without its time in the queue."""
SLOTS = 100
"""Jobs that the service works on at once."""


@dataclass(frozen=True)
class Course:
    """Jobs of a run. Job n has kind n modulo the number of kinds."""

    jobs: Jobs
    kinds: Sequence[str] = ("kind",)


def cold(seed: int) -> dict[str, Course]:
    """Return courses without a queue, where nothing is known at first or the latency changes."""

    def draws(name: str, count: int) -> list[float]:
        return LATENCIES[name].draws(count, seed)

    def changed(factor: float) -> Jobs:
        latencies = draws("lognormal 0.5", 4000)
        return spaced(latencies[:2000] + [factor * latency for latency in latencies[2000:]], 1.0)

    courses = {
        **{f"200 jobs, {name}": spaced(draws(name, 200), 1.0) for name in LATENCIES},
        **{
            f"2,000 at once, {name}": spaced(draws(name, 2000), 0.001)
            for name in ("lognormal 0.5", "bimodal", "uniform", "uniform, wide", "exponential")
        },
        "10 jobs": spaced(draws("lognormal 0.5", 10), 1.0),
        "40 jobs": spaced(draws("lognormal 0.5", 40), 1.0),
        "3 times slower half-way": changed(3.0),
        "10 times slower half-way": changed(10.0),
        "3 times faster half-way": changed(1 / 3),
    }
    return {name: Course(jobs) for name, jobs in courses.items()}


def queues(seed: int) -> dict[str, Course]:
    """Return courses where jobs of one kind wait in a queue."""

    def served(accepted: Iterable[float]) -> Jobs:
        times = list(accepted)
        return queued(times, SERVICE.draws(len(times), seed), SLOTS)

    burst = served(_evenly(5000, 200))
    courses = {
        "5,000 at once": burst,
        "submitted faster than served": served(_evenly(5000, 6)),
        "a burst after a burst": served(_evenly(2500, 200) + _evenly(2500, 200, 400)),
        "stalls for 120 s": _stalled(burst, 700, 120),
        "twice as slow half-way": _slower(burst, 700, 2.0),
        "twice as fast half-way": _slower(burst, 700, 0.5),
        "one in 20 passed over": _with_strays(burst, 20),
        "runs empty, then one job a second": served(_evenly(3000, 200) + _evenly(2000, 1, 1200)),
        "served in random order": _shuffled(burst),
    }
    return {name: Course(jobs) for name, jobs in courses.items()}


def two_kinds(seed: int) -> dict[str, Course]:
    """Return courses where jobs of two models take turns; one model takes four times as long as the other."""
    accepted, kinds = _evenly(6000, 6), ("short", "long")
    short, long = (lognormal(mean_s, 0.5).draws(3000, seed) for mean_s in (12, 48))
    both = [service for pair in zip(short, long, strict=True) for service in pair]
    apart = [
        queued(accepted[0::2], short, SLOTS // 4),
        queued(accepted[1::2], long, SLOTS),
    ]
    return {
        "two kinds in one queue": Course(queued(accepted, both, SLOTS), kinds),
        "two kinds, a queue each": Course([job for pair in zip(*apart, strict=True) for job in pair], kinds),
        "two kinds, no queue": Course(spaced(both, 1 / 6), kinds),
    }


def _evenly(count: int, per_s: float, start: float = 0.0) -> list[float]:
    return [start + n / per_s for n in range(count)]


def _stalled(jobs: Jobs, at: float, for_s: float) -> Jobs:
    """Return jobs of which none ends for a while: every end after `at` is `for_s` later."""
    return [(accepted, ends + for_s * (ends > at)) for accepted, ends in jobs]


def _slower(jobs: Jobs, at: float, factor: float) -> Jobs:
    """Return jobs that take `factor` times as long from `at` on."""
    return [(accepted, ends + max(ends - at, 0.0) * (factor - 1)) for accepted, ends in jobs]


def _with_strays(jobs: Jobs, every: int) -> Jobs:
    """Return jobs of which one in `every` is passed over for ten minutes."""
    return [(accepted, ends + 600 * (n % every == 0)) for n, (accepted, ends) in enumerate(jobs)]


def _shuffled(jobs: Jobs) -> Jobs:
    """Return jobs that end in no order, so that only their age says anything."""
    ends = [ends for _, ends in jobs]
    return [(accepted, ends[n * 7919 % len(jobs)]) for n, (accepted, _) in enumerate(jobs)]
