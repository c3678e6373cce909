"""Many short rounds instead of a long one, and what they say together. Owns the statistics, and no process.

A virtual machine is slow for minutes at a time, and slows all that runs by then alike. So candidates take
turns, ratios are taken within a round, and what is told is the median of the rounds with its least and most.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from scripts.lib.bench.pinned_processes import Trial

Name = TypeVar("Name")
Result = TypeVar("Result")


class Spread(msgspec.Struct, frozen=True):
    """A figure of several rounds."""

    median: float
    least: float
    most: float


Cell = Spread | float | int | str


class Measured(msgspec.Struct, frozen=True):
    """What a sweep has found."""

    how: str
    """One sentence: between what sizes, in how many rounds."""
    rows: list[dict[str, Cell]]
    """A table; the keys are its columns."""
    figures: dict[str, Spread] = {}
    """What the goals are about; a figure that was not taken at a goal's own sizes is absent."""
    notes: list[str] = []


class Pair(msgspec.Struct, frozen=True):
    """The same client at two sizes, one right after the other."""

    small: Trial
    large: Trial

    @property
    def cpu_us_per_job(self) -> float:
        """The slope between the sizes: what starting and ending cost is in neither."""
        more_s = self.large.usage.cpu_s - self.small.usage.cpu_s
        return more_s / (self.large.jobs - self.small.jobs) * 1e6


def take_turns(
    names: Sequence[Name], rounds: int, measure: Callable[[Name], Result]
) -> dict[Name, list[Result]]:
    """Measure each in every round, every other round in the opposite order: A B C, C B A, A B C, …"""
    taken: dict[Name, list[Result]] = {name: [] for name in names}
    for number in range(rounds):
        for name in reversed(names) if number % 2 else names:
            taken[name].append(measure(name))
    return taken


def spread(values: Iterable[float]) -> Spread:
    numbers = list(values)
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Of two candidates, round by round."""
    return spread(a / b for a, b in zip(above, below, strict=True))


def slopes(pairs: Iterable[Pair]) -> list[float]:
    return [pair.cpu_us_per_job for pair in pairs]


def costs(pairs: Sequence[Pair]) -> dict[str, Cell]:
    """The columns of all sweeps over jobs; those after the slope are of the larger runs."""
    large = [pair.large for pair in pairs]
    jobs = sum(one.jobs for one in large)
    return {
        "cpu_us_per_job": spread(slopes(pairs)),
        "wall_s": statistics.median(one.usage.wall_s for one in large),
        "peak_mb": max(one.usage.peak_bytes for one in large) / 1e6,
        "posts_per_job": round(sum(one.posts for one in large) / jobs, 3),
        "gets_per_job": round(sum(one.gets for one in large) / jobs, 3),
    }


def unequal(rows: Iterable[dict[str, Any]]) -> list[str]:
    """A note where rows that are compared did not do the same exchanges for a job."""
    kinds = {(row["posts_per_job"], row["gets_per_job"]) for row in rows}
    return [] if len(kinds) == 1 else ["NOT COMPARABLE: the exchanges per job differ"]


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def tell(text: str) -> None:
    """Progress, for those who wait."""
    print(f"  {text}", file=sys.stderr, flush=True)
