"""CPU per job with ever more jobs in flight, to see whether a job costs more among many."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

from scripts.lib.bench.benchmark_run import benchmark_run, simulator_settings
from scripts.lib.bench.pinned_processes import ClientRun, client_cores, serving
from scripts.lib.bench.rounds import (
    Findings,
    Pair,
    costs,
    plural,
    ratio,
    report_progress,
    slopes,
    take_turns,
    unequal_exchanges,
)

JOBS_PER_S: Final = 2_500
"""Jobs per second that the latency allows at any number in flight; client and simulator can keep up."""
SHORTEST_INTERVAL_S: Final = 0.1
LATENCY_SHARE: Final = 0.9
"""Latency as a share of the polling interval: one poll finds the job done."""


class Load(msgspec.Struct, frozen=True):
    """A run and how many jobs it had in flight."""

    run: ClientRun
    most: int
    usual: float


def measure_in_flight(levels: Sequence[int], sizes: tuple[int, int], rounds: int) -> Findings:
    """Measure each level in every round; both runs of a level have more jobs than are in flight."""
    loads: dict[int, list[Load]] = {level: [] for level in levels}

    def measure(level: int) -> Pair:
        small, large = (run_at(level, jobs) for jobs in jobs_at(level, sizes))
        loads[level].append(large)
        pair = Pair(small.run, large.run)
        cost = f"{pair.cpu_us_per_job:,.0f} µs of CPU per job"
        report_progress(f"{level:,} in flight: {cost}, at most {large.most:,} seen in flight")
        return pair

    pairs = take_turns(levels, rounds, measure)
    us = {level: slopes(of) for level, of in pairs.items()}
    first = levels[0]
    rows = [
        {
            "in_flight": level,
            "seen_at_most": min(load.most for load in loads[level]),
            "seen_usually": median(load.usual for load in loads[level]),
            "jobs": "{:,} – {:,}".format(*jobs_at(level, sizes)),
            **costs(of),
            "over_first": ratio(us[level], us[first]),
        }
        for level, of in pairs.items()
    ]
    return Findings(
        how=f"slope between two sizes, both more than are in flight, {plural(rounds, 'round')} in turns",
        rows=rows,
        figures={f"{level} ÷ {first} in flight": ratio(us[level], us[first]) for level in levels[1:]},
        notes=unequal_exchanges(rows),
    )


def jobs_at(level: int, sizes: tuple[int, int]) -> tuple[int, int]:
    """Return the jobs of the two runs; the larger one spends most of its time with all slots taken."""
    return level + max(sizes[0], level // 10), level + max(sizes[1], 2 * level)


def interval_at(level: int) -> float:
    """Return the polling interval in seconds at which `level` jobs in flight pass at `JOBS_PER_S`."""
    return max(level / JOBS_PER_S, SHORTEST_INTERVAL_S)


def run_at(level: int, jobs: int) -> Load:
    """Run jobs with `level` slots, against a simulator of its own."""
    interval_s = interval_at(level)
    with (
        serving(simulator_settings(LATENCY_SHARE * interval_s)) as simulator,
        benchmark_run(
            simulator.base_url, jobs, interval_s=interval_s, submit={"max_in_flight": level}
        ) as run,
    ):
        done = run.measure(simulator, client_cores())
        # The last sample is of the end, when nothing is in flight.
        samples = run.in_flight()[:-1] or [0]
        return Load(run=done, most=simulator.stats()["peak_open"], usual=median(samples))
