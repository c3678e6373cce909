"""One session of a run as a command prepares it, and the engines that work on it."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from runner.config import RunConfig
from runner.measure.history import History
from runner.measure.vitals import Vitals
from runner.session.session import SessionOutcome
from runner.session.shutdown import Shutdown
from runner.source import Source
from runner.store import Manifest, RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One session of a run, ready to start."""

    config: RunConfig
    run_dir: RunDir
    """Directory of the run, locked by this process."""
    manifest: Manifest
    key: str
    base_url: str
    source: Source
    history: History
    """What earlier sessions left; the engine counts in its meter and its `in_flight`."""
    rows: int
    """Number of rows to send, from the first."""
    vitals: Vitals

    @property
    def session(self) -> int:
        """Number of the session in the run, from 0."""
        return self.history.next_session

    @property
    def resumes(self) -> bool:
        """Whether there were earlier sessions."""
        return bool(self.history.session.continued)


class Engine(Protocol):
    """Works on a task, in this process or in several."""

    @property
    def shutdown(self) -> Shutdown:
        """Shutdown of the session, to end it."""

    async def run(self, *beside: Coroutine[Any, Any, None]) -> SessionOutcome:
        """Work until every row has its result, or something ends the session; `beside` runs until then.

        Raises `StorageError`.
        """
