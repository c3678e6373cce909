"""CPU per job of four clients that do the same exchanges: the guide's, bare aiohttp, the runner's two.

Every job is one POST and one GET of a finished result of about 2 kB, except that the guide's client asks
again, a second later, for what is not done when it asks first.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.lib.bench.benchmark_run import run, service
from scripts.lib.bench.pinned_processes import Service, Trial, client_cores, serving, trial
from scripts.lib.bench.rounds import Measured, Pair, costs, plural, ratio, slopes, take_turns, tell, unequal

LATENCY_S = 0.05
INTERVAL_S = 2 * LATENCY_S
"""Past the latency: one poll finds the job done."""

BASELINE, BARE, DIRECT, SDK = "guide-shaped baseline", "bare aiohttp", "runner, direct", "runner, SDK"
_HERE = Path(__file__).resolve().parent
_SCRIPTS = {BASELINE: "guide_client.py", BARE: "bare_client.py"}
_TRANSPORTS = {DIRECT: "aiohttp", SDK: "openai"}


def candidates(sizes: tuple[int, int], rounds: int) -> Measured:
    """All four, one after the other in every round, against one simulator."""
    with serving(service(LATENCY_S)) as simulator:

        def measure(name: str) -> Pair:
            small, large = (attempt(simulator, name, jobs) for jobs in sizes)
            pair = Pair(small, large)
            tell(f"{name}: {pair.cpu_us_per_job:,.0f} µs of CPU per job")
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
    return Measured(
        how=f"slope between {sizes[0]:,} and {plural(sizes[1], 'job')}, {plural(rounds, 'round')} in turns",
        rows=rows,
        figures={
            "direct ÷ bare": ratio(us[DIRECT], us[BARE]),
            "baseline ÷ direct": ratio(us[BASELINE], us[DIRECT]),
            "sdk ÷ baseline": ratio(us[SDK], us[BASELINE]),
        },
        notes=unequal(row for row in rows if row["candidate"] != BASELINE),
    )


def attempt(simulator: Service, name: str, jobs: int) -> Trial:
    if name in _SCRIPTS:
        command = [sys.executable, str(_HERE / _SCRIPTS[name]), simulator.base_url, str(jobs)]
        return trial(simulator, command, jobs, client_cores())
    transport = _TRANSPORTS[name]
    with run(simulator.base_url, jobs, interval_s=INTERVAL_S, transport=transport) as ours:
        return trial(simulator, ours.command, jobs, client_cores())
