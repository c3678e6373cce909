"""CPU per row and peak memory of the two modes: the same rows as background jobs and in batches."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from scripts.lib.bench.benchmark_run import BenchmarkRun, Mode, benchmark_run, simulator_settings
from scripts.lib.bench.checkout import HERE, Checkout
from scripts.lib.bench.pinned_processes import PinnedSimulator, client_cores, serving
from scripts.lib.bench.rounds import (
    Findings,
    Pair,
    costs,
    plural,
    ratio,
    report_progress,
    slopes,
    spread,
    take_turns,
)

LATENCY_S: Final = 2.0
INTERVALS_S: Final[dict[Mode, float]] = {"background": 2 * LATENCY_S, "batch": LATENCY_S}
"""Polling intervals in seconds. One poll finds a background job done: that is the least it can cost."""
IN_FLIGHT: Final = 20_000
MB: Final = 1e6
MODES: Final[tuple[Mode, ...]] = ("background", "batch")


def measure_modes(sizes: tuple[int, int], rounds: int) -> Findings:
    """Measure both modes in every round, against one simulator.

    Batches are as large as the defaults allow. The result of each row is fetched by a GET of its own.
    """
    completed: dict[Mode, list[int]] = {mode: [] for mode in MODES}
    with serving(simulator_settings(LATENCY_S)) as simulator:

        def measure(mode: Mode) -> Pair:
            runs = []
            for rows in sizes:
                with mode_run(simulator, mode, rows) as run:
                    runs.append(run.measure(simulator, client_cores()))
                    completed[mode].append(run.completed())
            pair = Pair(*runs)
            report_progress(f"{mode}: {pair.cpu_us_per_job:,.0f} µs of CPU per row")
            return pair

        pairs = take_turns(MODES, rounds, measure)
    us = {mode: slopes(of) for mode, of in pairs.items()}
    peaks = spread(pair.large.usage.peak_bytes / MB for pair in pairs["batch"])
    over = {mode: ratio(us[mode], us["background"]) for mode in MODES}
    return Findings(
        how=f"slope between {sizes[0]:,} and {plural(sizes[1], 'row')}, {plural(rounds, 'round')} in turns",
        rows=[
            {
                "mode": mode,
                "completed_once_and_right": f"{min(completed[mode]):,} – {max(completed[mode]):,}",
                **costs(of),
                "over_first": over[mode],
            }
            for mode, of in pairs.items()
        ],
        figures={"batch ÷ background": over["batch"], f"peak MB of {sizes[1]} rows in batches": peaks},
    )


def mode_run(
    simulator: PinnedSimulator, mode: Mode, rows: int, checkout: Checkout = HERE
) -> AbstractContextManager[BenchmarkRun]:
    """Prepare a run of `rows` rows in one mode."""
    return benchmark_run(
        simulator.base_url,
        rows,
        interval_s=INTERVALS_S[mode],
        mode=mode,
        checkout=checkout,
        submit={"max_in_flight": IN_FLIGHT},
    )
