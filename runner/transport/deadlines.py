"""Whole deadlines for exchanges, kept by a single timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, cast

_current_task: Final = cast("Callable[[], asyncio.Task[Any]]", asyncio.current_task)
"""`asyncio.current_task`, which is never None here: an exchange always runs in a task."""


class Deadlines:
    """A context manager around each exchange: it raises `TimeoutError` after `timeout_s`.

    All exchanges have the same timeout, so the oldest is due first. The timer follows the oldest and is set
    once per `timeout_s`, however many exchanges there are. A task is in one exchange at a time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._began_mono: dict[asyncio.Task[Any], float] = {}
        """Loop time at which each task entered its exchange, oldest first."""
        self._passed: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Deadlines of {self._timeout_s:g} s, {len(self._began_mono)} exchanges open>"

    def __enter__(self) -> None:
        task = _current_task()
        now_mono = self._loop.time()
        self._began_mono[task] = now_mono
        if self._timer is None:
            self._timer = self._loop.call_at(now_mono + self._timeout_s, self._ring)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _current_task()
        del self._began_mono[task]
        if self._passed and task in self._passed:
            self._passed.remove(task)
            # As in asyncio.timeout: somebody else may have cancelled the task as well.
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def close(self) -> None:
        """Cancel the timer. Call it when no exchange is open any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        now_mono = self._loop.time()
        for task, began_mono in self._began_mono.items():
            due_mono = began_mono + self._timeout_s
            if due_mono > now_mono:
                self._timer = self._loop.call_at(due_mono, self._ring)
                return
            if task not in self._passed:
                self._passed.add(task)
                task.cancel()
