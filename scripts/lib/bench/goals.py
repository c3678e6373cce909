"""Goals of the benchmarks. They are never softened: a missed goal is reported with its figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from scripts.lib.bench.rounds import Findings, Spread

Verdict = Literal["met", "missed", "not measured"]


class Goal(msgspec.Struct, frozen=True):
    """The most, or the least, that a figure of a subject should be."""

    goal: str
    """Description for people."""
    subject: str
    figure: str
    """Name in `Findings.figures`."""
    limit: float
    at_least: bool = False
    unit: str = ""

    @property
    def bound(self) -> str:
        """The limit as text."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    def verdict(self, found: Spread | None) -> Verdict:
        """Return the verdict on the median of all rounds."""
        if found is None:
            return "not measured"
        is_met = found.median >= self.limit if self.at_least else found.median <= self.limit
        return "met" if is_met else "missed"


IN_FLIGHT: Final = (500, 5_000, 50_000)
ROWS: Final = (50_000, 1_000_000)
ROWS_IN_FLIGHT: Final = 20_000
_MANY = f"{ROWS[1]} ÷ {ROWS[0]} rows, {ROWS_IN_FLIGHT} in flight"
_PEAK = f"peak MB of {ROWS[1]} rows, {ROWS_IN_FLIGHT} in flight"
BATCHED: Final = 250_000
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


class Judgement(msgspec.Struct, frozen=True):
    """A goal and the figure that was found."""

    goal: str
    bound: str
    found: Spread | None
    verdict: Verdict


def judge_goals(subjects: Mapping[str, Findings]) -> list[Judgement]:
    """Return the judgement of every goal on what was measured."""
    judgements = []
    for goal in GOALS:
        findings = subjects.get(goal.subject)
        found = findings.figures.get(goal.figure) if findings else None
        judgements.append(Judgement(goal.goal, goal.bound, found, goal.verdict(found)))
    return judgements
