"""The two ways through: the same rows as background jobs and in batches, CPU per row and peak memory."""

from __future__ import annotations

from typing import Final, Literal

from scripts.lib.bench.benchmark_run import run, service
from scripts.lib.bench.pinned_processes import client_cores, serving, trial
from scripts.lib.bench.rounds import Measured, Pair, costs, plural, ratio, slopes, spread, take_turns, tell

LATENCY_S: Final = 2.0
INTERVAL_S: Final = 2 * LATENCY_S
"""Past the latency: one poll finds a background job done, which is the least that it can cost."""
IN_FLIGHT: Final = 20_000
MB: Final = 1e6
Mode = Literal["background", "batch"]
MODES: Final[tuple[Mode, ...]] = ("background", "batch")


def modes(sizes: tuple[int, int], rounds: int) -> Measured:
    """Batches as large as they may be by default; each row's result is fetched by a GET of its own."""
    right: dict[Mode, list[int]] = {mode: [] for mode in MODES}
    with serving(service(LATENCY_S)) as simulator:

        def measure(mode: Mode) -> Pair:
            trials, interval_s = [], INTERVAL_S if mode == "background" else LATENCY_S
            for rows in sizes:
                with run(
                    simulator.base_url,
                    rows,
                    interval_s=interval_s,
                    mode=mode,
                    submit={"max_in_flight": IN_FLIGHT},
                    poll={
                        "strategy": "fixed",
                        "interval_s": INTERVAL_S if mode == "background" else LATENCY_S,
                    },
                ) as ours:
                    trials.append(trial(simulator, ours.command, rows, client_cores()))
                    right[mode].append(ours.completed())
            pair = Pair(*trials)
            tell(f"{mode}: {pair.cpu_us_per_job:,.0f} µs of CPU per row")
            return pair

        pairs = take_turns(MODES, rounds, measure)
    us = {mode: slopes(of) for mode, of in pairs.items()}
    peaks = spread(pair.large.usage.peak_bytes / MB for pair in pairs["batch"])
    over = {mode: ratio(us[mode], us["background"]) for mode in MODES}
    return Measured(
        how=f"slope between {sizes[0]:,} and {plural(sizes[1], 'row')}, {plural(rounds, 'round')} in turns",
        rows=[
            {
                "mode": mode,
                "completed_once_and_right": f"{min(right[mode]):,} – {max(right[mode]):,}",
                **costs(of),
                "over_first": over[mode],
            }
            for mode, of in pairs.items()
        ],
        figures={"batch ÷ background": over["batch"], f"peak MB of {sizes[1]} rows in batches": peaks},
    )
