"""One timer ends every exchange that takes too long, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

import pytest
import uvloop

from runner.transport.deadlines import Deadlines

A_LONG_TIME_S = 3600.0

T = TypeVar("T")


class Run:
    """Runs a coroutine on an event loop of one kind."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._new_loop = new_loop

    def __call__(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(main())


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop])
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


async def exchange(deadlines: Deadlines, seconds: float) -> str:
    try:
        with deadlines:
            await asyncio.sleep(seconds)
    except TimeoutError:
        return "too late"
    return "in time"


def test_each_ends_at_its_own_deadline_and_the_task_goes_on(run: Run) -> None:
    async def main() -> list[list[str]]:
        deadlines = Deadlines(0.05)

        async def worker() -> list[str]:
            ends = [
                await exchange(deadlines, seconds) for seconds in (0.0, A_LONG_TIME_S, 0.0, A_LONG_TIME_S)
            ]
            await asyncio.sleep(0)  # no late cancellation is left behind
            return ends

        async with asyncio.timeout(30):
            ends = await asyncio.gather(*(worker() for _ in range(20)))
        deadlines.close()
        return ends

    assert run(main) == [["in time", "too late", "in time", "too late"]] * 20


def test_a_task_that_somebody_else_cancels_is_cancelled(run: Run) -> None:
    async def main() -> None:
        deadlines = Deadlines(A_LONG_TIME_S)
        task = asyncio.create_task(exchange(deadlines, A_LONG_TIME_S))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadlines.close()

    run(main)


def test_a_task_that_is_also_cancelled_at_its_deadline_is_cancelled(run: Run) -> None:
    async def main() -> None:
        deadlines = Deadlines(0.02)
        passed = asyncio.Event()

        async def slow_to_end() -> None:
            with deadlines:
                try:
                    await asyncio.sleep(A_LONG_TIME_S)
                finally:
                    passed.set()
                    await asyncio.sleep(0.0)  # the second cancellation comes here

        task = asyncio.create_task(slow_to_end())
        await passed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadlines.close()

    run(main)


def test_an_error_of_an_exchange_passes_through(run: Run) -> None:
    async def main() -> None:
        deadlines = Deadlines(A_LONG_TIME_S)
        with pytest.raises(ZeroDivisionError), deadlines:
            _ = 1 / 0
        deadlines.close()

    run(main)


def test_ten_thousand_exchanges_set_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        call_at = mock.Mock(wraps=loop.call_at)
        monkeypatch.setattr(loop, "call_at", call_at)
        deadlines = Deadlines(A_LONG_TIME_S)
        for _ in range(10_000):
            assert await exchange(deadlines, 0.0) == "in time"
        deadlines.close()
        return call_at.call_count

    assert Run(asyncio.new_event_loop)(main) == 1
