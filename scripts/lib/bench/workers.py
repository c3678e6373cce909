"""Does a job cost more with several worker processes? The same run with one and with more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from scripts.lib.bench.benchmark_run import run, service
from scripts.lib.bench.candidates import INTERVAL_S, LATENCY_S
from scripts.lib.bench.pinned_processes import client_cores, serving, trial
from scripts.lib.bench.rounds import Measured, Pair, costs, plural, ratio, slopes, take_turns, tell, unequal

CONNECTIONS: Final = 200
"""POSTs at once, and GETs at once: the defaults of a run."""


class Crew(NamedTuple):
    """So many workers, that share so many connections of each sort."""

    workers: int
    connections: int


def workers(counts: Sequence[int], sizes: tuple[int, int], rounds: int) -> Measured:
    """CPU is that of all processes together, the runner itself included; see `processes.Usage`.

    Several workers are measured twice: with the connections that one has, shared out, and with as many for
    each. Fewer connections bring fewer answers per turn of a loop, and a turn has costs of its own.
    """
    cores = client_cores(max(counts))
    with serving(service(LATENCY_S)) as simulator:

        def measure(crew: Crew) -> Pair:
            each = {"concurrency": crew.connections}
            trials = []
            for jobs in sizes:
                with run(
                    simulator.base_url,
                    jobs,
                    interval_s=INTERVAL_S,
                    engine={"workers": crew.workers},
                    submit=each,
                    poll={"strategy": "fixed", "interval_s": INTERVAL_S, **each},
                ) as ours:
                    trials.append(trial(simulator, ours.command, jobs, cores))
            pair = Pair(*trials)
            who = f"{plural(crew.workers, 'worker')} with {crew.connections} connections"
            tell(f"{who}: {pair.cpu_us_per_job:,.0f} µs of CPU per job")
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
    return Measured(
        how=f"{between}, {plural(rounds, 'round')} in turns, {where}",
        rows=rows,
        figures=figures,
        notes=unequal(rows),
    )
