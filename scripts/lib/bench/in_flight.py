"""Does a job cost more among many? The same exchanges per job, with ever more jobs in flight."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from scripts.lib.bench.benchmark_run import run, service
from scripts.lib.bench.pinned_processes import Trial, client_cores, serving, trial
from scripts.lib.bench.rounds import Measured, Pair, costs, plural, ratio, slopes, take_turns, tell, unequal

JOBS_PER_S = 2_500
"""What the latency lets through at any number in flight; client and simulator can keep up with it."""
SHORTEST_INTERVAL_S = 0.1
LATENCY_SHARE = 0.9
"""Of the polling interval: one poll finds the job done."""


class Load(msgspec.Struct, frozen=True):
    """A run with so many jobs in flight, and how many it had."""

    trial: Trial
    most: int
    usual: float


def in_flight(levels: Sequence[int], sizes: tuple[int, int], rounds: int) -> Measured:
    """Each level in every round; a level's two runs are both larger than what is in flight."""
    peaks: dict[int, list[Load]] = {level: [] for level in levels}

    def measure(level: int) -> Pair:
        small, large = (loaded(level, jobs) for jobs in jobs_at(level, sizes))
        peaks[level].append(large)
        pair = Pair(small.trial, large.trial)
        tell(
            f"{level:,} in flight: {pair.cpu_us_per_job:,.0f} µs of CPU per job, {large.most:,} seen at most"
        )
        return pair

    pairs = take_turns(levels, rounds, measure)
    us = {level: slopes(of) for level, of in pairs.items()}
    first = levels[0]
    rows = [
        {
            "in_flight": level,
            "seen_at_most": min(load.most for load in peaks[level]),
            "seen_usually": median(load.usual for load in peaks[level]),
            "jobs": "{:,} – {:,}".format(*jobs_at(level, sizes)),
            **costs(of),
            "over_first": ratio(us[level], us[first]),
        }
        for level, of in pairs.items()
    ]
    return Measured(
        how=f"slope between two sizes, both past what is in flight, {plural(rounds, 'round')} in turns",
        rows=rows,
        figures={f"{level} ÷ {first} in flight": ratio(us[level], us[first]) for level in levels[1:]},
        notes=unequal(rows),
    )


def jobs_at(level: int, sizes: tuple[int, int]) -> tuple[int, int]:
    """How many jobs the two runs have, so that the second spends most of its time with all places taken."""
    return level + max(sizes[0], level // 10), level + max(sizes[1], 2 * level)


def loaded(level: int, jobs: int) -> Load:
    """A run with `level` places, against a simulator of its own."""
    interval_s = max(level / JOBS_PER_S, SHORTEST_INTERVAL_S)
    with (
        serving(service(LATENCY_SHARE * interval_s)) as simulator,
        run(simulator.base_url, jobs, interval_s=interval_s, submit={"max_in_flight": level}) as ours,
    ):
        done = trial(simulator, ours.command, jobs, client_cores())
        # The last sample is of the end, when nothing is in flight.
        samples = ours.in_flight()[:-1] or [0]
        return Load(trial=done, most=simulator.stats()["peak_open"], usual=median(samples))
