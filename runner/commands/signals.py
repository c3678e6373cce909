"""SIGINT and SIGTERM, from before the first row is read until the summary is written."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from runner.errors import Interrupted

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Calls `handler` for each signal; who is at work sets it.

    Python runs handlers in the main thread between any two bytecodes, also in the middle of a callback of
    the event loop: where a loop runs, `hand_to` defers them to between two callbacks.
    """

    def __init__(self) -> None:
        self.handler: Callable[[int], None] = self.interrupt
        self.received: list[int] = []
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

    def hand_to(self, loop: asyncio.AbstractEventLoop, handler: Callable[[int], object]) -> None:
        """From now on, have `loop` call `handler`."""

        def defer(signum: int) -> None:
            loop.call_soon_threadsafe(handler, signum)

        self.handler = defer

    def ignore_to_the_end(self) -> None:
        """From here on, and after the context too: the last words of a command must not be torn."""
        self.handler = self.ignore
        self._before = dict.fromkeys(SIGNALS, signal.SIG_IGN)
        sys.unraisablehook = _silent_about_signals

    @staticmethod
    def interrupt(signum: int) -> None:
        """Where there is nothing to bring home: end the command."""
        raise Interrupted(signum)

    @staticmethod
    def ignore(signum: int) -> None:
        """Where what is left takes a moment, and must not be torn."""

    def _received(self, signum: int, frame: FrameType | None) -> None:
        self.received.append(signum)
        self.handler(signum)


def _silent_about_signals(unraisable: sys.UnraisableHookArgs) -> None:
    """A signal that comes just when its handler is taken away is an error to Python, and news to nobody."""
    if not isinstance(unraisable.exc_value, OSError):
        sys.__unraisablehook__(unraisable)
