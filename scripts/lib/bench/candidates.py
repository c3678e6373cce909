"""CPU per job of four clients: guide-shaped, bare aiohttp, and the runner with each of its transports.

Every job is one POST and one GET of a finished result of about 2 kB. Only the guide-shaped client polls
again, one second later, for each job that is not done at its first poll.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from scripts.lib.bench.benchmark_run import benchmark_run, simulator_settings
from scripts.lib.bench.pinned_processes import (
    ClientRun,
    PinnedSimulator,
    client_cores,
    measure_client,
    serving,
)
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

LATENCY_S: Final = 0.05
INTERVAL_S: Final = 2 * LATENCY_S
"""Polling interval in seconds; longer than the latency, so that one poll finds the job done."""

BASELINE: Final = "guide-shaped baseline"
BARE: Final = "bare aiohttp"
DIRECT: Final = "runner, direct"
SDK: Final = "runner, SDK"
TRANSPORTS: Final = {DIRECT: "aiohttp", SDK: "openai"}
_SCRIPTS = {BASELINE: "guide_client.py", BARE: "bare_client.py"}


def measure_candidates(sizes: tuple[int, int], rounds: int) -> Findings:
    """Measure all four, one after the other in every round, against one simulator."""
    with serving(simulator_settings(LATENCY_S)) as simulator:

        def measure(name: str) -> Pair:
            pair = Pair(*(run_candidate(simulator, name, jobs) for jobs in sizes))
            report_progress(f"{name}: {pair.cpu_us_per_job:,.0f} µs of CPU per job")
            return pair

        # The two that are closest are neighbours.
        pairs = take_turns((BASELINE, BARE, DIRECT, SDK), rounds, measure)
    us = {name: slopes(of) for name, of in pairs.items()}
    rows = [
        {
            "candidate": name,
            **costs(of),
            "over_bare": ratio(us[name], us[BARE]),
            "baseline_over_it": ratio(us[BASELINE], us[name]),
        }
        for name, of in pairs.items()
    ]
    return Findings(
        how=f"slope between {sizes[0]:,} and {plural(sizes[1], 'job')}, {plural(rounds, 'round')} in turns",
        rows=rows,
        figures={
            "direct ÷ bare": ratio(us[DIRECT], us[BARE]),
            "baseline ÷ direct": ratio(us[BASELINE], us[DIRECT]),
            "sdk ÷ baseline": ratio(us[SDK], us[BASELINE]),
        },
        notes=unequal_exchanges(row for row in rows if row["candidate"] != BASELINE),
    )


def run_candidate(simulator: PinnedSimulator, name: str, jobs: int) -> ClientRun:
    """Run a candidate once."""
    if name in _SCRIPTS:
        script = str(Path(__file__).with_name(_SCRIPTS[name]))
        command = [sys.executable, script, simulator.base_url, str(jobs)]
        return measure_client(simulator, command, jobs, client_cores(), os.environ)
    transport = TRANSPORTS[name]
    with benchmark_run(simulator.base_url, jobs, interval_s=INTERVAL_S, transport=transport) as run:
        return run.measure(simulator, client_cores())
