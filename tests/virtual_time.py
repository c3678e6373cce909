"""An event loop whose clock jumps to the next timer instead of waiting, for tests in virtual time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")


class VirtualLoop(asyncio.SelectorEventLoop):
    """The clock starts at 0 and moves only while every task waits for a timer.

    Work in threads takes no virtual time: the clock stands until it has ended. A loop with nothing left to
    wait for raises `RuntimeError` instead of hanging.
    """

    def __init__(self) -> None:
        self._now_mono = 0.0
        self._threads = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now_mono

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, *timeout_s: float | None) -> None:
        self._threads += 1
        try:
            await super().shutdown_default_executor(*timeout_s)
        finally:
            self._threads -= 1

    def pass_time(self, wait_s: float | None) -> None:
        """Move the clock by `wait_s`, the time to the next timer; None if there is none."""
        if wait_s is None:
            raise RuntimeError("virtual time: every task waits, and no timer is set")
        self._now_mono += wait_s

    @property
    def is_in_a_thread(self) -> bool:
        """Whether work in a thread has not ended."""
        return self._threads > 0

    def _thread_ended(self, _: object) -> None:
        self._threads -= 1


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._loop.is_in_a_thread and (timeout is None or timeout > 0):
            return super().select(None)
        events = super().select(0)
        if not events and timeout != 0:
            self._loop.pass_time(timeout)
        return events


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time that begins at 0, and return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
