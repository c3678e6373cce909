"""One whole deadline for each exchange under way, and one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, cast

_current_task: Final = cast("Callable[[], asyncio.Task[Any]]", asyncio.current_task)
"""An exchange always runs in a task."""


class Deadlines:
    """`with deadlines:` around an exchange cancels its task after `timeout_s` and raises `TimeoutError`.

    All last equally long, so the one that began first is due first: the timer follows the oldest, and is
    set once in `timeout_s` however many exchanges there are. A task is in one exchange at a time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._began: dict[asyncio.Task[Any], float] = {}
        """By task, the oldest first: loop time."""
        self._passed: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Deadlines of {self._timeout_s:g} s, {len(self._began)} under way>"

    def __enter__(self) -> None:
        task = _current_task()
        now = self._loop.time()
        self._began[task] = now
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._timeout_s, self._ring)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _current_task()
        del self._began[task]
        if self._passed and task in self._passed:
            self._passed.remove(task)
            # As asyncio.timeout has it: somebody else may have cancelled the task as well.
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def close(self) -> None:
        """Let go of the timer; no exchange is under way any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        for task, began in self._began.items():
            due = began + self._timeout_s
            if due > now:
                self._timer = self._loop.call_at(due, self._ring)
                return
            if task not in self._passed:
                self._passed.add(task)
                task.cancel()
