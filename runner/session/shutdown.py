"""How a session ends: when all is done, by draining, or at once."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Final

from runner.errors import Interrupted, RunnerError, StoppedEarly
from runner.measure.meter import Meter

GRACE_S: Final = 2.0
"""For exchanges that are still under way when the run is over: each may bring an acceptance or a result."""


class Closing:
    """Knows why the session ends. `over` is set when there is nothing left to wait for but the grace.

    It ends in one of three ways: every row has its result; or it is *drained*, after a signal or a limit:
    nothing more is sent, and what is open is polled for `drain_s`; or it is *stopped*, by an error or a
    further signal: nothing more is polled either.
    """

    def __init__(
        self,
        meter: Meter,
        all_done: Callable[[], bool],
        nothing_open: Callable[[], bool],
        drain_s: float,
        say: Callable[[str], None],
        stop_submitting: Callable[[], None],
        cancel: Callable[[], None],
    ) -> None:
        self._meter = meter
        self._all_done = all_done
        self._nothing_open = nothing_open
        self._drain_s = drain_s
        self._say = say
        self._stop_submitting = stop_submitting
        self._cancel = cancel
        self._drained_for: RunnerError | None = None
        self._stopped_by: RunnerError | None = None
        self.on_stop: Callable[[RunnerError], None] = lambda _: None
        """Told at once, while what is under way is still brought home."""
        self.over = asyncio.Event()
        self.hurried = asyncio.Event()
        """The user wants the end now: nothing is waited for any more."""

    @property
    def has_begun(self) -> bool:
        """Nothing more is to be sent, for whatever reason."""
        return bool(self._drained_for or self._stopped_by) or self.over.is_set()

    @property
    def ended_by(self) -> RunnerError | None:
        """What ended the session before every row had its result."""
        return self._stopped_by or (None if self._all_done() else self._drained_for)

    def signal(self, signum: int) -> None:
        """The first one drains, the second ends everything at once."""
        if self._drained_for or self._stopped_by:
            self._drained_for = self._drained_for or Interrupted(signum)
            self.hurried.set()
            self.over.set()
            self._cancel()
            return
        interrupted = Interrupted(signum)
        self.drain(interrupted, interrupted.name)

    def drain(self, why: RunnerError, name: str | None = None) -> None:
        """Send nothing more; wait for what is open, for a while. Only the first reason counts.

        Told to the user under `name`, if there is one.
        """
        if self._drained_for or self._stopped_by:
            return
        self._drained_for = why
        self._stop_submitting()
        if name is not None:
            self._say(
                f"{name}: no more is sent; waiting at most {self._drain_s:g} s for "
                f"{self._meter.open:,} open jobs (Ctrl-C: stop at once)"
            )
        asyncio.get_running_loop().call_later(self._drain_s, self.over.set)

    def stop(self, error: RunnerError) -> None:
        """Neither send nor poll any more. Many workers meet the same end: it is told once."""
        if self._stopped_by is None:
            self._stopped_by = error
            self.on_stop(error)
        self.over.set()

    def end_by(self, error: Exception) -> None:
        """`stop`, for whatever went wrong: a defect of ours must not lose what is under way either."""
        if isinstance(error, RunnerError):
            self.stop(error)
            return
        self._say("".join(traceback.format_exception(error)))
        what = f"a defect of this program: {error!r}; please report it with the lines above"
        self.stop(StoppedEarly(what))

    def abandon(self, error: RunnerError) -> None:
        """As `stop`, and without the grace for what is under way."""
        self.stop(error)
        self.hurried.set()
        self._cancel()

    def check(self) -> None:
        """Whether there is anything left to wait for."""
        if self._all_done() or (self._drained_for and self._nothing_open()):
            self.over.set()
