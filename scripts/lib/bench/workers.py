"""CPU per job with one worker process and with more, to see whether a job costs more with several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from scripts.lib.bench.benchmark_run import benchmark_run, simulator_settings
from scripts.lib.bench.candidates import INTERVAL_S, LATENCY_S
from scripts.lib.bench.pinned_processes import client_cores, serving
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

CONNECTIONS: Final = 200
"""POSTs at once, and GETs at once: the defaults of a run."""


class Crew(NamedTuple):
    """A number of workers, and the connections for POSTs and for GETs that they share."""

    workers: int
    connections: int


def measure_workers(counts: Sequence[int], sizes: tuple[int, int], rounds: int) -> Findings:
    """Measure the CPU of all processes together, the coordinator included.

    Several workers are measured twice: with the connections of one shared between them, and with as many for
    each. With fewer connections, fewer answers arrive per turn of an event loop, and a turn has its own cost.
    """
    cores = client_cores(max(counts))
    with serving(simulator_settings(LATENCY_S)) as simulator:

        def measure(crew: Crew) -> Pair:
            limit = {"concurrency": crew.connections}
            runs = []
            for jobs in sizes:
                with benchmark_run(
                    simulator.base_url,
                    jobs,
                    interval_s=INTERVAL_S,
                    engine={"workers": crew.workers},
                    submit=limit,
                    poll={"strategy": "fixed", "interval_s": INTERVAL_S, **limit},
                ) as run:
                    runs.append(run.measure(simulator, cores))
            pair = Pair(*runs)
            name = f"{plural(crew.workers, 'worker')} with {crew.connections} connections"
            report_progress(f"{name}: {pair.cpu_us_per_job:,.0f} µs of CPU per job")
            return pair

        first = Crew(counts[0], CONNECTIONS)
        shared = [Crew(count, CONNECTIONS) for count in counts[1:]]
        each = [Crew(count, CONNECTIONS * count) for count in counts[1:]]
        pairs = take_turns([first, *shared, *each], rounds, measure)
    us = {crew: slopes(of) for crew, of in pairs.items()}
    over_first = {crew: ratio(us[crew], us[first]) for crew in pairs}
    rows = [{**crew._asdict(), **costs(of), "over_first": over_first[crew]} for crew, of in pairs.items()]
    between = f"slope between {sizes[0]:,} and {plural(sizes[1], 'job')}"
    where = f"all on {plural(len(cores), 'core')}" if cores else "not pinned"
    figures = {f"{crew.workers} ÷ {first.workers} workers": over_first[crew] for crew in shared}
    figures |= {f"{crew.workers} ÷ {first.workers} workers, as many each": over_first[crew] for crew in each}
    return Findings(
        how=f"{between}, {plural(rounds, 'round')} in turns, {where}",
        rows=rows,
        figures=figures,
        notes=unequal_exchanges(rows),
    )
