"""What is aimed at. Never softened: a goal that is missed is told so, with its figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from scripts.lib.bench.rounds import Measured, Spread

Verdict = Literal["met", "missed", "not measured"]


class Goal(msgspec.Struct, frozen=True):
    """A figure of a sweep, and what it should be at most, or at least."""

    goal: str
    subject: str
    figure: str
    limit: float
    at_least: bool = False
    unit: str = ""

    @property
    def bound(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    def verdict(self, found: Spread | None) -> Verdict:
        """By the median of all rounds."""
        if found is None:
            return "not measured"
        is_met = found.median >= self.limit if self.at_least else found.median <= self.limit
        return "met" if is_met else "missed"


IN_FLIGHT = (500, 5_000, 50_000)
ROWS = (50_000, 1_000_000)
ROWS_IN_FLIGHT = 20_000
_MANY = f"{ROWS[1]} ÷ {ROWS[0]} rows, {ROWS_IN_FLIGHT} in flight"
_PEAK = f"peak MB of {ROWS[1]} rows, {ROWS_IN_FLIGHT} in flight"
BATCHED = 250_000
_BATCHED_PEAK = f"peak MB of {BATCHED} rows in batches"

GOALS = (
    Goal("CPU per job, direct ÷ bare aiohttp", "candidates", "direct ÷ bare", 1.2),
    Goal(
        "CPU per job, guide-shaped baseline ÷ direct", "candidates", "baseline ÷ direct", 8.5, at_least=True
    ),
    Goal("CPU per job, SDK transport ÷ baseline", "candidates", "sdk ÷ baseline", 0.75),
    Goal("CPU per job, 50,000 jobs in flight ÷ 500", "in-flight", "50000 ÷ 500 in flight", 1.15),
    Goal("peak memory, 1,000,000 rows ÷ 50,000 (20,000 in flight)", "memory", _MANY, 1.2),
    Goal("peak memory, 1,000,000 rows (20,000 in flight)", "memory", _PEAK, 250, unit=" MB"),
    Goal("CPU per job, 2 workers ÷ 1, connections shared out", "workers", "2 ÷ 1 workers", 1.1),
    Goal("CPU per job, 2 workers ÷ 1, as many for each", "workers", "2 ÷ 1 workers, as many each", 1.1),
    Goal("CPU per row, in batches ÷ as background jobs", "modes", "batch ÷ background", 0.7),
    Goal(f"peak memory, {BATCHED:,} rows in batches", "modes", _BATCHED_PEAK, 400, unit=" MB"),
    Goal("wall time of runner --help", "start", "help", 0.25, unit=" s"),
)


class Judged(msgspec.Struct, frozen=True):
    """A goal and what was found."""

    goal: str
    bound: str
    found: Spread | None
    verdict: Verdict


def judged(subjects: Mapping[str, Measured]) -> list[Judged]:
    """Every goal, by what was measured."""
    judgements = []
    for goal in GOALS:
        measured = subjects.get(goal.subject)
        found = measured.figures.get(goal.figure) if measured else None
        judgements.append(Judged(goal.goal, goal.bound, found, goal.verdict(found)))
    return judgements
