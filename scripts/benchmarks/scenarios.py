"""Courses of a run that are not stationary: when jobs are accepted, and when each ends."""

from collections.abc import Iterable

from optimum import LATENCIES, Latency, lognormal
from virtual_time import Jobs, queued, spaced

SEED = 11
SERVICE = lognormal(30, 0.5)
SLOTS = 100


def _draws(name: str, count: int, factor: float = 1.0) -> list[float]:
    return [factor * latency for latency in LATENCIES[name].draws(count, SEED)]


def _changed(factor: float) -> Jobs:
    """Half-way the service becomes so many times slower."""
    return spaced(_draws("lognormal 0.5", 2000) + _draws("lognormal 0.5", 2000, factor), 1.0)


COLD: dict[str, Jobs] = {
    **{f"200 jobs, {name}": spaced(_draws(name, 200), 1.0) for name in LATENCIES},
    **{
        f"2,000 at once, {name}": spaced(_draws(name, 2000), 0.001)
        for name in ("lognormal 0.5", "bimodal", "uniform", "exponential")
    },
    "10 jobs": spaced(_draws("lognormal 0.5", 10), 1.0),
    "40 jobs": spaced(_draws("lognormal 0.5", 40), 1.0),
    "3 times slower half-way": _changed(3.0),
    "10 times slower half-way": _changed(10.0),
    "3 times faster half-way": _changed(1 / 3),
}


def _drained(accepted: Iterable[float], service: Latency = SERVICE, slots: int = SLOTS) -> Jobs:
    times = list(accepted)
    return queued(times, service.draws(len(times), SEED), slots)


def _evenly(count: int, per_s: float, start: float = 0.0) -> list[float]:
    return [start + n / per_s for n in range(count)]


def _stalled(jobs: Jobs, at: float, for_s: float) -> Jobs:
    """Nothing ends for a while; what would have, and all after it, ends so much later."""
    return [(accepted, ends + for_s * (ends > at)) for accepted, ends in jobs]


def _slower(jobs: Jobs, at: float, factor: float) -> Jobs:
    """From some time on everything takes so many times longer."""
    return [(accepted, ends + max(ends - at, 0.0) * (factor - 1)) for accepted, ends in jobs]


def _with_strays(jobs: Jobs, every: int) -> Jobs:
    """Some jobs are passed over for ten minutes."""
    return [(accepted, ends + 600 * (n % every == 0)) for n, (accepted, ends) in enumerate(jobs)]


def _by_lot(jobs: Jobs) -> Jobs:
    """Served in no order: nothing but the age tells."""
    ends = [ends for _, ends in jobs]
    return [(accepted, ends[n * 7919 % len(jobs)]) for n, (accepted, _) in enumerate(jobs)]


_BURST = _drained(_evenly(5000, 200))
QUEUES: dict[str, Jobs] = {
    "5,000 at once": _BURST,
    "submitted faster than served": _drained(_evenly(5000, 6)),
    "a burst after a burst": _drained(_evenly(2500, 200) + _evenly(2500, 200, 400)),
    "stalls for 120 s": _stalled(_BURST, 700, 120),
    "twice as slow half-way": _slower(_BURST, 700, 2.0),
    "twice as fast half-way": _slower(_BURST, 700, 0.5),
    "one in 20 passed over": _with_strays(_BURST, 20),
    "runs empty, then one job a second": _drained(_evenly(3000, 200) + _evenly(2000, 1, 1200)),
    "served by lot": _by_lot(_BURST),
}
