"""A worker as the coordinator sees it, wherever it runs."""

from __future__ import annotations

from typing import Protocol

from runner.engine.messages import Command, Event


class Worker(Protocol):
    """One worker of a run: started, sent commands, heard, and replaced by another when it dies."""

    async def start(self) -> None:
        """Start it. Raises `StoppedEarly` where that is not possible."""

    def tell(self, command: Command) -> None:
        """Send it a command, without waiting; lost where it has ended."""

    async def hear(self) -> Event | None:
        """Return its next event, or None when it has ended, for whatever reason."""

    async def exit_reason(self) -> str:
        """Return how it ended, in words; call it after `hear` has returned None."""

    async def close(self) -> None:
        """Close the connection to a worker that has ended."""

    def kill(self) -> None:
        """End it at once; harmless where it has ended."""
