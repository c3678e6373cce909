"""Statistics of many short rounds instead of a long one; starts no process.

A virtual machine can be slow for minutes, and then everything on it is slow. So candidates take turns, ratios
are taken within a round, and the result is the median of the rounds with its least and its greatest value.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from scripts.lib.bench.pinned_processes import ClientRun

Name = TypeVar("Name")
Result = TypeVar("Result")
CONFIDENCE = 0.95


class Spread(msgspec.Struct, frozen=True):
    """A figure of several rounds."""

    median: float
    least: float
    most: float


Cell = Spread | float | int | str


class Findings(msgspec.Struct, frozen=True):
    """The results of measuring a subject."""

    how: str
    """How it was measured: sizes and rounds."""
    rows: list[dict[str, Cell]]
    """A table; the keys are its columns."""
    figures: dict[str, Spread] = {}
    """Figures that goals are about, by names that include the sizes they were measured at."""
    notes: list[str] = []


class Pair(msgspec.Struct, frozen=True):
    """The same client at two sizes."""

    small: ClientRun
    large: ClientRun

    @property
    def cpu_us_per_job(self) -> float:
        """Slope between the two sizes in µs; without the CPU of start and end."""
        more_s = self.large.usage.cpu_s - self.small.usage.cpu_s
        return more_s / (self.large.jobs - self.small.jobs) * 1e6


def take_turns(
    names: Sequence[Name], rounds: int, measure: Callable[[Name], Result]
) -> dict[Name, list[Result]]:
    """Measure each in every round; every other round has the opposite order (A B C, C B A, A B C)."""
    taken: dict[Name, list[Result]] = {name: [] for name in names}
    for number in range(rounds):
        for name in reversed(names) if number % 2 else names:
            taken[name].append(measure(name))
    return taken


def spread(values: Iterable[float]) -> Spread:
    """Return the median, the least and the greatest value."""
    numbers = list(values)
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the spread of the ratios of two candidates, round by round."""
    return spread(a / b for a, b in zip(above, below, strict=True))


def ratio_estimate(
    above: Sequence[float], below: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, tuple[float, float] | None]:
    """Return an estimate of the ratio of two candidates from paired rounds, and its confidence interval.

    Both come from the Walsh averages of the logarithms of the rounds' ratios: the estimate is their median
    (Hodges and Lehmann 1963), and the interval leaves out as many at each end as the signed-rank test with
    this confidence allows. The interval is None if there are too few rounds (fewer than six for 95 %).
    """
    logs = [math.log(a / b) for a, b in zip(above, below, strict=True)]
    averages = sorted((x + y) / 2 for n, x in enumerate(logs) for y in logs[n:])
    outside, left_out = 0, 0
    for ways in _signed_rank_ways(len(logs)):
        outside += ways
        if 2 * outside > (1 - confidence) * 2 ** len(logs):
            break
        left_out += 1
    estimate = math.exp(statistics.median(averages))
    if not left_out:
        return estimate, None
    return estimate, (math.exp(averages[left_out - 1]), math.exp(averages[-left_out]))


def _signed_rank_ways(count: int) -> list[int]:
    """Return in how many ways some of the ranks 1 … `count` add up to 0, 1, 2, and so on."""
    ways = [1]
    for rank in range(1, count + 1):
        padding = [0] * rank
        ways = [without + with_ for without, with_ in zip(ways + padding, padding + ways, strict=True)]
    return ways


def slopes(pairs: Iterable[Pair]) -> list[float]:
    """Return the CPU per job of each pair, in µs."""
    return [pair.cpu_us_per_job for pair in pairs]


def costs(pairs: Sequence[Pair]) -> dict[str, Cell]:
    """Return the columns that all subjects about jobs have; all but the slope are of the larger runs."""
    large = [pair.large for pair in pairs]
    jobs = sum(one.jobs for one in large)
    return {
        "cpu_us_per_job": spread(slopes(pairs)),
        "wall_s": statistics.median(one.usage.wall_s for one in large),
        "peak_mb": max(one.usage.peak_bytes for one in large) / 1e6,
        "posts_per_job": round(sum(one.posts for one in large) / jobs, 3),
        "gets_per_job": round(sum(one.gets for one in large) / jobs, 3),
    }


def unequal_exchanges(rows: Iterable[Mapping[str, Cell]]) -> list[str]:
    """Return a note if rows that are compared did not make the same exchanges for a job."""
    kinds = {(row["posts_per_job"], row["gets_per_job"]) for row in rows}
    return [] if len(kinds) == 1 else ["NOT COMPARABLE: the exchanges per job differ"]


def plural(count: int, noun: str) -> str:
    """Return a count with its noun in the right number."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def report_progress(text: str) -> None:
    """Print a line of progress to stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)
