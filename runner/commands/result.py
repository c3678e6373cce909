"""How a command ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit code of a command, and what it has to say."""

    exit_code: int
    messages: tuple[str, ...] = ()
    """Lines for stderr."""
    output: str = ""
    """Text for stdout; a run's own is the report."""
