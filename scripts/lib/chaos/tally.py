"""Counts of what was done in trials, and the violations found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from scripts.lib.chaos.checks import Violation, ViolationKind

EARLY_S: Final = 1.5
"""Age in seconds below which a process is still starting or resuming."""


@dataclass
class Tally:
    """Counts of what was done in one or several trials, and of what was found."""

    trials: int = 0
    rows: int = 0
    kills: int = 0
    """Processes that ended by SIGKILL."""
    early_kills: int = 0
    """Kills of processes younger than `EARLY_S`."""
    signals: int = 0
    """Processes that ended because SIGINT or SIGTERM asked them to."""
    worker_kills: int = 0
    """Kills of a worker alone; its run went on."""
    in_doubt: int = 0
    """Batches that were being sent at a kill: the run must find out whether the service has them."""
    torn: int = 0
    """Files whose end was torn."""
    disks: int = 0
    """Processes that stopped because the disk was full."""
    restarts: int = 0
    """Restarts of the service."""
    retries: int = 0
    """Calls with `--retry failed`."""
    uncertain: int = 0
    """Rows that ended `uncertain`."""
    violations: list[Violation] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts and violations of other trials."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def count(self, kind: ViolationKind) -> int:
        """Return the number of violations of a kind."""
        return sum(violation.kind == kind for violation in self.violations)
