"""How a command ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ending:
    """Its exit code, and what there is to say about it."""

    exit_code: int
    messages: tuple[str, ...]
    result: str = ""
    """For stdout; a run's own is the report."""
