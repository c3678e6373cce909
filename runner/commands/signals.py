"""Handles SIGINT and SIGTERM, from before the first row is read until the summary is written."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeVar

from runner.errors import Interrupted

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


class Signals:
    """What SIGINT and SIGTERM do while a command works; a context that restores the old handlers.

    Python runs handlers in the main thread between any two bytecodes, also in the middle of a callback of the
    event loop. Where a loop runs, `hand_to` defers them to between two callbacks.
    """

    def __init__(self) -> None:
        self._handle: Callable[[int], object] = _interrupt
        self.received: list[int] = []
        """Numbers of the signals so far, in order."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for signum in SIGNALS:
            self._before[signum] = signal.signal(signum, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)

    def hold(self) -> None:
        """Only record signals from now on, because what is being done must not be interrupted."""
        self._handle = _ignore

    def hand_to(self, handler: Callable[[int], object]) -> None:
        """Call `handler` for each signal received so far, and from the event loop for each later one."""
        loop = asyncio.get_running_loop()

        def defer(signum: int) -> None:
            loop.call_soon_threadsafe(handler, signum)

        self._handle = defer
        for signum in self.received:
            handler(signum)

    async def interruptible(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, which a signal cancels, now or before. Raises `Interrupted` then."""
        task = asyncio.ensure_future(work)
        self.hand_to(lambda _: task.cancel())
        try:
            return await task
        except asyncio.CancelledError:
            if not self.received:  # cancelled from outside
                raise
            raise Interrupted(self.received[0]) from None

    def ignore_to_the_end(self) -> None:
        """Ignore signals from now on, also after the context: the last messages must not be interrupted."""
        self._handle = _ignore
        self._before = dict.fromkeys(SIGNALS, signal.SIG_IGN)
        sys.unraisablehook = _silent_about_signals

    def _received(self, signum: int, frame: FrameType | None) -> None:
        self.received.append(signum)
        self._handle(signum)


def _interrupt(signum: int) -> None:
    """End the command, while nothing is outstanding."""
    raise Interrupted(signum)


def _ignore(signum: int) -> None:
    """Do nothing."""


def _silent_about_signals(unraisable: sys.UnraisableHookArgs) -> None:
    """Report what Python cannot raise, unless it is a signal that comes while its handler is removed."""
    if not isinstance(unraisable.exc_value, OSError):
        sys.__unraisablehook__(unraisable)
