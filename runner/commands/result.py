"""How a command ended: its exit code, and what it says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended."""

    exit_code: int
    messages: tuple[str, ...] = ()
    """Messages for stderr, each of one line or more."""
    output: str = ""
    """Text for stdout; empty if there is none."""
