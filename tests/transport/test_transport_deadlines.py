"""One timer ends every exchange that takes too long, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from runner.transport.deadlines import Deadlines

FOR_EVER_S = 3600.0


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop])
def run(request: pytest.FixtureRequest):
    def run_on(main):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main())

    return run_on


async def exchange(deadlines: Deadlines, seconds: float) -> str:
    try:
        with deadlines:
            await asyncio.sleep(seconds)
    except TimeoutError:
        return "too late"
    return "in time"


def test_each_ends_at_its_own_deadline_and_the_task_goes_on(run: Any) -> None:
    async def main():
        deadlines = Deadlines(0.05)

        async def worker():
            said = [await exchange(deadlines, seconds) for seconds in (0.0, FOR_EVER_S, 0.0, FOR_EVER_S)]
            await asyncio.sleep(0)  # nothing of it is left behind
            return said

        async with asyncio.timeout(30):
            said = await asyncio.gather(*(worker() for _ in range(20)))
        deadlines.close()
        return said

    assert run(main) == [["in time", "too late", "in time", "too late"]] * 20


def test_a_task_that_somebody_else_cancels_is_cancelled(run: Any) -> None:
    async def main():
        deadlines = Deadlines(FOR_EVER_S)
        task = asyncio.create_task(exchange(deadlines, FOR_EVER_S))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadlines.close()

    run(main)


def test_a_task_that_is_cancelled_at_its_deadline_as_well_is_cancelled(run: Any) -> None:
    async def main():
        deadlines = Deadlines(0.02)
        passed = asyncio.Event()

        async def slow_to_go():
            with deadlines:
                try:
                    await asyncio.sleep(FOR_EVER_S)
                finally:
                    passed.set()
                    await asyncio.sleep(0.0)  # the second one comes here

        task = asyncio.create_task(slow_to_go())
        await passed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadlines.close()

    run(main)


def test_an_exchange_that_fails_fails_as_it_did(run: Any) -> None:
    async def main():
        deadlines = Deadlines(FOR_EVER_S)
        with pytest.raises(ZeroDivisionError), deadlines:
            _ = 1 / 0
        deadlines.close()

    run(main)


def test_ten_thousand_exchanges_set_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main():
        loop = asyncio.get_running_loop()
        timers = []
        call_at = loop.call_at
        monkeypatch.setattr(loop, "call_at", lambda *args: timers.append(args[0]) or call_at(*args))
        deadlines = Deadlines(FOR_EVER_S)
        for _ in range(10_000):
            assert await exchange(deadlines, 0.0) == "in time"
        deadlines.close()
        return timers

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert len(runner.run(main())) == 1
