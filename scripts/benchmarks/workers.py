"""Does a job cost more with several worker processes? The same run with one and with more."""

from __future__ import annotations

from collections.abc import Sequence

from candidates import INTERVAL_S, LATENCY_S
from processes import client_cores, serving, trial
from rounds import Measured, Pair, costs, plural, ratio, slopes, take_turns, tell, unequal
from run import run, service


def workers(counts: Sequence[int], sizes: tuple[int, int], rounds: int) -> Measured:
    """CPU is that of all processes together, the runner itself included; see `processes.Usage`."""
    cores = client_cores(max(counts))
    with serving(service(LATENCY_S)) as simulator:

        def measure(count: int) -> Pair:
            trials = []
            for jobs in sizes:
                engine = {"workers": count}
                with run(simulator.base_url, jobs, interval_s=INTERVAL_S, engine=engine) as ours:
                    trials.append(trial(simulator, ours.command, jobs, cores))
            pair = Pair(*trials)
            tell(f"{plural(count, 'worker')}: {pair.cpu_us_per_job:,.0f} µs of CPU per job")
            return pair

        pairs = take_turns(counts, rounds, measure)
    us = {count: slopes(of) for count, of in pairs.items()}
    first = counts[0]
    rows = [
        {"workers": count, **costs(of), "over_first": ratio(us[count], us[first])}
        for count, of in pairs.items()
    ]
    between = f"slope between {sizes[0]:,} and {plural(sizes[1], 'job')}"
    where = f"all on {plural(len(cores), 'core')}" if cores else "not pinned"
    return Measured(
        how=f"{between}, {plural(rounds, 'round')} in turns, {where}",
        rows=rows,
        figures={f"{count} ÷ {first} workers": ratio(us[count], us[first]) for count in counts[1:]},
        notes=unequal(rows),
    )
