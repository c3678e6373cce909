"""The protocol of a worker, as the coordinator uses it, wherever the worker runs."""

from __future__ import annotations

from typing import Protocol

from runner.engine.messages import Command, Event


class Worker(Protocol):
    """One worker of a run. It is started, gets commands, sends events, and is replaced when it dies."""

    async def start(self) -> None:
        """Start the worker. Raises `StoppedEarly` if that is not possible."""

    def tell(self, command: Command) -> None:
        """Send a command, without waiting. It is lost if the worker has ended."""

    async def hear(self) -> Event | None:
        """Return the next event, or None when the worker has ended, for whatever reason."""

    async def exit_reason(self) -> str:
        """Return how the worker ended, for people; call it after `hear` has returned None."""

    async def close(self) -> None:
        """Close the connection to a worker that has ended."""

    def kill(self) -> None:
        """End the worker at once; harmless if it has ended."""
