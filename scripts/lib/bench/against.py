"""CPU per job of this checkout and of another one, in the same rounds against the same simulator.

Each checkout runs with its own interpreter, as a process of its own. A round of a client is four runs of the
same size in the order A B B A, and in the next round B A A B. So a machine that becomes slower or faster
favours neither checkout, and the ratio of a round compares runs that are neighbours in time. A few small runs
before show what a run costs without its jobs; this is subtracted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from scripts.lib.bench import candidates, modes
from scripts.lib.bench.benchmark_run import Mode, benchmark_run, simulator_settings
from scripts.lib.bench.checkout import HERE, Checkout
from scripts.lib.bench.pinned_processes import ClientRun, PinnedSimulator, client_cores, serving
from scripts.lib.bench.rounds import (
    Cell,
    Findings,
    plural,
    ratio,
    ratio_estimate,
    report_progress,
    spread,
)

MOST_RATIO: Final = 1.03
"""Ratio of CPU per job up to which two checkouts count as equal."""
SMALL_ROUNDS: Final = 3
"""Rounds of small runs, of four runs each."""
MB: Final = 1e6
Side = Literal["here", "there"]
Subject = Literal["candidates", "modes"]
SIDES: Final[tuple[Side, Side]] = ("here", "there")
RunOnce = Callable[[PinnedSimulator, Checkout, int], ClientRun]


class Client(NamedTuple):
    """A client that both checkouts have."""

    name: str
    run: RunOnce
    """Runs the client of a checkout once, with a number of jobs."""
    share: float = 1.0
    """Share of the jobs of `--sizes` that this client runs, because its jobs cost more."""


class Comparison(NamedTuple):
    """The clients that a subject compares, and the simulator that they talk to."""

    simulator: Mapping[str, Any]
    clients: Sequence[Client]


class Runs(msgspec.Struct):
    """Runs of one client in one checkout; two in each round."""

    small: list[ClientRun] = []
    large: list[ClientRun] = []

    @property
    def small_cpu_s(self) -> float:
        """Median CPU seconds of a small run."""
        return statistics.median(run.usage.cpu_s for run in self.small)

    def cpu_us_per_job(self) -> list[float]:
        """Return the CPU per job in µs of each round: of what its two runs used beyond a small one."""
        more_jobs = 2 * (self.large[0].jobs - self.small[0].jobs)
        used_s = [run.usage.cpu_s for run in self.large]
        pairs = zip(used_s[::2], used_s[1::2], strict=True)
        return [(one + other - 2 * self.small_cpu_s) / more_jobs * 1e6 for one, other in pairs]

    def peak_mb(self) -> float:
        """Return the greatest peak memory of a large run, in MB."""
        return max(run.usage.peak_bytes for run in self.large) / MB

    def exchanges(self) -> tuple[float, float]:
        """Return POSTs and GETs per job of the large runs, to the nearest hundredth."""
        jobs = sum(run.jobs for run in self.large)
        posts, gets = sum(run.posts for run in self.large), sum(run.gets for run in self.large)
        return round(posts / jobs, 2), round(gets / jobs, 2)


def measure_against(other: Checkout, subject: Subject, sizes: tuple[int, int], rounds: int) -> Findings:
    """Compare CPU per job of this checkout and another one."""
    comparison = COMPARISONS[subject]
    with serving(comparison.simulator) as simulator:
        return compare(simulator, comparison.clients, other, sizes, rounds)


def compare(
    simulator: PinnedSimulator,
    clients: Sequence[Client],
    other: Checkout,
    sizes: tuple[int, int],
    rounds: int,
) -> Findings:
    """Run the clients of both checkouts in turns, and return what they used."""
    checkouts: dict[Side, Checkout] = {"here": HERE, "there": other}
    taken: dict[str, dict[Side, Runs]] = {client.name: {side: Runs() for side in SIDES} for client in clients}

    def run_round(client: Client, jobs: int, number: int) -> Iterator[tuple[Side, ClientRun]]:
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        for side in (*order, *order[::-1]):
            yield side, client.run(simulator, checkouts[side], max(int(client.share * jobs), 1))

    for client in clients:
        for checkout in checkouts.values():  # the first run, which compiles files, does not count
            client.run(simulator, checkout, sizes[0])
        for number in range(min(SMALL_ROUNDS, rounds)):
            for side, run in run_round(client, sizes[0], number):
                taken[client.name][side].small.append(run)
    for number in range(rounds):
        for client in clients:
            for side, run in run_round(client, sizes[1], number):
                taken[client.name][side].large.append(run)
            here, there = (taken[client.name][side].cpu_us_per_job()[-1] for side in SIDES)
            found = f"{here:,.0f} µs of CPU per job here, {there:,.0f} µs there"
            report_progress(f"round {number + 1} of {rounds}, {client.name}: {found}")
    return _findings(taken, rounds)


def _findings(taken: Mapping[str, Mapping[Side, Runs]], rounds: int) -> Findings:
    rows: list[dict[str, Cell]] = []
    notes: list[str] = []
    figures = {}
    for name, sides in taken.items():
        here, there = sides["here"], sides["there"]
        us_here, us_there = here.cpu_us_per_job(), there.cpu_us_per_job()
        figures[f"here ÷ there, {name}"] = ratio(us_here, us_there)
        rows.append(
            {
                "client": name,
                "jobs": f"{here.small[0].jobs:,} – {here.large[0].jobs:,}",
                "here_cpu_us_per_job": spread(us_here),
                "there_cpu_us_per_job": spread(us_there),
                "here_over_there": ratio(us_here, us_there),
                "here_small_cpu_s": here.small_cpu_s,
                "there_small_cpu_s": there.small_cpu_s,
                "here_peak_mb": here.peak_mb(),
                "there_peak_mb": there.peak_mb(),
            }
        )
        notes.append(_verdict(name, us_here, us_there))
        if here.exchanges() != there.exchanges():
            notes.append(f"NOT COMPARABLE: {name} makes other exchanges per job here than there")
    how = f"CPU per job beyond a small run, {plural(rounds, 'round')} of A B B A or B A A B"
    return Findings(how=how, rows=rows, figures=figures, notes=notes)


def _verdict(name: str, here: Sequence[float], there: Sequence[float]) -> str:
    """Return a sentence: how much more or less CPU a job costs here, and whether that is within 3 %."""
    estimate, interval = ratio_estimate(here, there)
    change = f"{name}: a job costs {estimate - 1:+.1%} CPU here compared with there"
    if not interval:
        return f"{change}; at least six rounds are needed to say how certain that is."
    low, high = interval
    limit = f"{MOST_RATIO - 1:.0%}"
    if high <= MOST_RATIO:
        verdict = f"at most {limit} more"
    elif low > MOST_RATIO:
        verdict = f"MORE THAN {limit} more"
    else:
        verdict = f"undecided whether at most {limit} more; repeat with more --rounds"
    return f"{change} (95 % confidence: {low - 1:+.1%} to {high - 1:+.1%}): {verdict}."


def candidate(transport: str) -> RunOnce:
    """Return a function that runs one of the candidates' transports once."""

    def run(simulator: PinnedSimulator, checkout: Checkout, jobs: int) -> ClientRun:
        with benchmark_run(
            simulator.base_url,
            jobs,
            interval_s=candidates.INTERVAL_S,
            transport=transport,
            checkout=checkout,
        ) as prepared:
            return prepared.measure(simulator, client_cores())

    return run


def mode_client(mode: Mode) -> RunOnce:
    """Return a function that runs a mode once and checks the result of each row."""

    def run(simulator: PinnedSimulator, checkout: Checkout, jobs: int) -> ClientRun:
        with modes.mode_run(simulator, mode, jobs, checkout) as prepared:
            done = prepared.measure(simulator, client_cores())
            prepared.completed()
            return done

    return run


COMPARISONS: Final[Mapping[Subject, Comparison]] = {
    "candidates": Comparison(
        simulator=simulator_settings(candidates.LATENCY_S),
        clients=(
            Client(candidates.DIRECT, candidate("aiohttp")),
            Client(candidates.SDK, candidate("openai"), share=0.25),
        ),
    ),
    "modes": Comparison(
        simulator=simulator_settings(modes.LATENCY_S),
        clients=[Client(mode, mode_client(mode)) for mode in modes.MODES],
    ),
}
