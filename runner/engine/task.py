"""One session of a run, ready to be worked on, and what works on it."""

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
    """What is to be done in one session, prepared by a command."""

    config: RunConfig
    run_dir: RunDir
    """Held by this process."""
    manifest: Manifest
    key: str
    base_url: str
    source: Source
    history: History
    """What earlier sessions left; its meter and counts go on from there."""
    rows: int
    """Rows of the input to send: all, or the first of them."""
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
    """Works on a task: in this process, or in several."""

    @property
    def shutdown(self) -> Shutdown:
        """How to end it."""

    async def run(self, *beside: Coroutine[Any, Any, None]) -> SessionOutcome:
        """Work until every row has its result, or something ends the session; `beside` runs until then.

        Raises `StorageError`.
        """
