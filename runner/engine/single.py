"""Runs a session in this process alone."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from runner.background.mode import BackgroundMode
from runner.config import RunConfig
from runner.engine.task import Task
from runner.errors import RunnerError
from runner.session.clock import Clock
from runner.session.feed import AllExcept, Feed
from runner.session.parts import Parts
from runner.session.session import Assignment, Mode, Session, SessionOutcome
from runner.session.shutdown import Shutdown
from runner.source import Source
from runner.store import Recovery
from runner.transport import Transport


class Single:
    """Runs a task as one session in this process. An `Engine`, and the `Host` of that session."""

    def __init__(self, task: Task, transport: Transport, say: Callable[[str], None], clock: Clock) -> None:
        """Open the files; call it with the event loop running. Raises `StorageError`.

        `transport` counts in the meter of the task; the session closes it.
        """
        self._say = say
        history, config = task.history, task.config
        self._needed = AllExcept(task.rows, history.recovery.rows_to_skip())
        self._session: Session[Mode[Any]] = Session(
            Assignment(
                config=config,
                run_id=task.manifest.run_id,
                base_url=task.base_url,
                rows=task.source,
                files=task.run_dir.files(),
                transport=transport,
                clock=clock,
                meter=history.meter,
                in_flight=history.in_flight,
                vitals=task.vitals,
                session=task.session,
                resumes=task.resumes,
            ),
            mode_of(config, task.source, history.recovery),
            self,
        )

    @property
    def shutdown(self) -> Shutdown:
        """How to end the session."""
        return self._session.shutdown

    async def run(self, *beside: Coroutine[Any, Any, None]) -> SessionOutcome:
        """Work until every row has its result, or something ends the session. Raises `StorageError`."""
        self._session.feed.grant(self._needed)
        self._session.feed.all_granted = True
        return await self._session.run(*beside)

    def say(self, text: str) -> None:
        """Inform the user of something."""
        self._say(text)

    def rows_low(self) -> None:
        """Do nothing: all rows are granted at the start."""

    def stopping(self, error: RunnerError) -> None:
        """Do nothing: the outcome has the error, and nobody acts on it earlier."""


def mode_of(config: RunConfig, source: Source, recovery: Recovery) -> Callable[[Parts[Any], Feed], Mode[Any]]:
    """Return what makes the mode that the config names."""
    if config.target.mode == "batch":
        from runner.batch.mode import BatchMode

        return partial(BatchMode, source=source, recovery=recovery)
    return partial(BackgroundMode, source=source, recovery=recovery)
