"""What was done in trials, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from scripts.lib.chaos.checks import Sort, Violation

STARTING_S: Final = 1.5


@dataclass
class Tally:
    """What was done in one trial or in several, and what came of it."""

    trials: int = 0
    rows: int = 0
    kills: int = 0
    early_kills: int = 0
    """Of these, within `STARTING_S` of the start: while it was starting, or starting to continue."""
    signals: int = 0
    """Processes that ended in order, or nearly so, because they were asked to."""
    worker_kills: int = 0
    """Of worker processes alone; the run goes on."""
    in_doubt: int = 0
    """Batches that were being sent when a process ended: whether the service has them is to be found out."""
    torn: int = 0
    disks: int = 0
    restarts: int = 0
    retries: int = 0
    """Of failed rows, by hand."""
    uncertain: int = 0
    violations: list[Violation] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def count(self, sort: Sort) -> int:
        return sum(violation.sort == sort for violation in self.violations)
