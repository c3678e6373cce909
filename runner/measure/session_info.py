"""What a run's files say about its sessions besides counts: when they began, how long they ran."""

from __future__ import annotations

import msgspec


class SessionInfo(msgspec.Struct):
    """The present session of a run, and the sum of the earlier ones."""

    name: str
    """Name of the run."""
    started: float
    """Creation of the run, in Unix seconds."""
    earlier_wall_s: float = 0.0
    """Seconds that earlier sessions ran."""
    earlier_cpu_s: float = 0.0
    """CPU seconds that earlier sessions used."""
    continued: int = 0
    """Number of times that the run was continued."""
    rows: int = 0
    """Rows of the whole input; with `--limit` a run sends fewer."""
    retried: int = 0
    """Rows that were retried with `--retry`."""
    wall_s: float = 0.0
    """Seconds that this session has run."""
    mode: str = "background"
    """`target.mode`."""

    @property
    def total_wall_s(self) -> float:
        """Seconds that all sessions ran."""
        return self.earlier_wall_s + self.wall_s
