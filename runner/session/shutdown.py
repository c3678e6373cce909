"""How a session ends: when all is done, by draining, or at once."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Final

from runner.errors import Interrupted, LimitReached, Problem, RunnerError, StoppedEarly
from runner.measure.in_flight import InFlight

GRACE_S: Final = 2.0
"""Seconds for exchanges that are open when the session is over: each may bring an acceptance or a result."""


class Shutdown:
    """Shutdown state of a session, and its reason.

    A session ends in one of three ways. It is *complete* once every row has its result. It is *drained* after
    a signal or a limit: nothing more is sent, and outstanding jobs are polled for `drain_s`. It is *stopped*
    by an error or a second signal: nothing more is polled either. `over` is set once only the grace period
    for open exchanges remains.
    """

    def __init__(
        self,
        in_flight: InFlight,
        *,
        is_complete: Callable[[], bool],
        is_idle: Callable[[], bool],
        drain_s: float,
        say: Callable[[str], None],
        on_draining: Callable[[], None],
        on_stopping: Callable[[RunnerError], None],
        on_forced: Callable[[], None],
    ) -> None:
        """`is_complete` and `is_idle` are asked whether all is done, and whether anything is outstanding.

        `on_draining` is called when nothing more is to be sent; `on_stopping` as soon as the session is
        stopped, before open exchanges have ended; `on_forced` when not even those are to be waited for.
        """
        self._in_flight = in_flight
        self._is_complete = is_complete
        self._is_idle = is_idle
        self._drain_s = drain_s
        self._say = say
        self._on_draining = on_draining
        self._on_stopping = on_stopping
        self._on_forced = on_forced
        self._drained_for: RunnerError | None = None
        self._stopped_by: RunnerError | None = None
        self.over = asyncio.Event()
        self.forced = asyncio.Event()
        """Set when the user wants the end now: nothing is waited for any more."""

    def __repr__(self) -> str:
        states = {"over": self.over.is_set(), "stopped": self._stopped_by, "draining": self._drained_for}
        return f"<Shutdown {next((name for name, is_so in states.items() if is_so), 'open')}>"

    @property
    def has_begun(self) -> bool:
        """Whether nothing more is to be sent, for whatever reason."""
        return bool(self._drained_for or self._stopped_by) or self.over.is_set()

    @property
    def ended_by(self) -> RunnerError | None:
        """What ended the session before every row had its result, or None."""
        return self._stopped_by or (None if self._is_complete() else self._drained_for)

    def signal(self, signum: int) -> None:
        """Drain on the first signal, end everything at once on the second."""
        if self._drained_for or self._stopped_by:
            self._drained_for = self._drained_for or Interrupted(signum)
            self.forced.set()
            self.over.set()
            self._on_forced()
            return
        interrupted = Interrupted(signum)
        self.drain(interrupted, interrupted.name)

    def stop_by_signal(self, signum: int) -> None:
        """Stop on a signal: open exchanges have their grace period, but nobody waits for room on a disk."""
        self.stop(Interrupted(signum))
        self.forced.set()

    def drain(self, why: RunnerError, name: str | None = None) -> None:
        """Send nothing more, and wait at most `drain_s` for outstanding jobs. Only the first reason counts.

        The user is informed under `name`, if there is one.
        """
        if self._drained_for or self._stopped_by:
            return
        self._drained_for = why
        self._on_draining()
        if name is not None:
            self._say(
                f"{name}: nothing more is sent; waiting at most {self._drain_s:g} s for "
                f"{self._in_flight.outstanding:,} open jobs (Ctrl-C: stop at once)"
            )
        asyncio.get_running_loop().call_later(self._drain_s, self.over.set)

    def drain_after(self, max_s: float | None) -> None:
        """Drain once the session has lasted `max_s` seconds; never where that is None."""
        if max_s is not None:
            reached = LimitReached(Problem("the time limit is reached", f"limits.max_s {max_s:g}"))
            asyncio.get_running_loop().call_later(max_s, self.drain, reached, "limits.max_s")

    def stop(self, error: RunnerError) -> None:
        """Neither send nor poll any more. Many workers meet the same end: only the first is reported."""
        if self._stopped_by is None:
            self._stopped_by = error
            self._on_stopping(error)
        self.over.set()

    def fail(self, error: Exception) -> None:
        """Stop for whatever went wrong: even a defect of this program must not lose open exchanges."""
        if isinstance(error, RunnerError):
            self.stop(error)
            return
        self._say("".join(traceback.format_exception(error)))
        self.stop(StoppedEarly(f"a defect of this program: {error!r}; please report it with the lines above"))

    def end(self) -> None:
        """End the session now, with nothing that ended it early: the time for it is over."""
        self.over.set()

    def force(self, error: RunnerError) -> None:
        """Stop without the grace period for open exchanges."""
        self.stop(error)
        self.forced.set()
        self._on_forced()

    def check(self) -> None:
        """End the session if nothing is left to wait for."""
        if self._is_complete() or (self._drained_for and self._is_idle()):
            self.over.set()
