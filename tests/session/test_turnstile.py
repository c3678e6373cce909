"""The one place where workers wait: order, timers, closing, and errors that must reach a worker."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

import pytest

from runner.session.turnstile import AFTER_AN_EVENT, NotBefore, Turnstile
from tests import virtual_time


class Pile:
    """Work that may be taken from `open_at_mono` on."""

    def __init__(self, *work: str, open_at_mono: float = -math.inf) -> None:
        self.work = deque(work)
        self.open_at_mono = open_at_mono
        self.asked_at_mono: list[float] = []

    def take(self, now_mono: float) -> str | NotBefore:
        self.asked_at_mono.append(now_mono)
        if self.open_at_mono > now_mono:
            return NotBefore(self.open_at_mono)
        return self.work.popleft() if self.work else AFTER_AN_EVENT


def turnstile_of(take: Callable[[float], str | NotBefore]) -> Turnstile[str]:
    return Turnstile(take, asyncio.get_running_loop().time)


async def workers(turnstile: Turnstile[str], count: int) -> list[asyncio.Task[str | None]]:
    """Return that many workers, which wait for work."""
    tasks = [asyncio.create_task(turnstile.get()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_work_that_is_there_is_given_without_waiting() -> None:
    async def main() -> None:
        turnstile = turnstile_of(Pile("a", "b").take)
        assert [await turnstile.get(), await turnstile.get()] == ["a", "b"]
        assert repr(turnstile) == "<Turnstile 0 waiting>"

    virtual_time.run(main())


def test_waiting_workers_are_served_in_the_order_they_came() -> None:
    async def main() -> None:
        pile = Pile()
        turnstile = turnstile_of(pile.take)
        tasks = await workers(turnstile, 4)
        assert repr(turnstile) == "<Turnstile 4 waiting>"
        pile.work.extend("abc")
        turnstile.wake()
        assert await asyncio.gather(*tasks[:3]) == ["a", "b", "c"]
        assert repr(turnstile) == "<Turnstile 1 waiting>"
        turnstile.close()

    virtual_time.run(main())


def test_work_that_is_due_later_is_given_then_with_one_timer_for_all_workers() -> None:
    async def main() -> None:
        pile = Pile(*("work" for _ in range(50)), open_at_mono=30.0)
        turnstile = turnstile_of(pile.take)
        assert await asyncio.gather(*(turnstile.get() for _ in range(50))) == ["work"] * 50
        assert pile.asked_at_mono == [0.0] * 50 + [30.0] * 50

    virtual_time.run(main())


def test_an_earlier_time_moves_the_timer_forward() -> None:
    async def main() -> None:
        pile = Pile("a", open_at_mono=1000.0)
        turnstile = turnstile_of(pile.take)
        (task,) = await workers(turnstile, 1)
        pile.open_at_mono = 20.0
        turnstile.wake()
        assert await task == "a"
        assert pile.asked_at_mono == [0.0, 0.0, 20.0]

    virtual_time.run(main())


def test_a_later_time_is_found_out_when_the_timer_rings() -> None:
    async def main() -> None:
        pile = Pile("a", open_at_mono=20.0)
        turnstile = turnstile_of(pile.take)
        (task,) = await workers(turnstile, 1)
        pile.open_at_mono = 50.0
        turnstile.wake()
        assert await task == "a"
        assert pile.asked_at_mono == [0.0, 0.0, 20.0, 50.0]

    virtual_time.run(main())


def test_a_time_that_is_almost_now_does_not_make_the_loop_spin() -> None:
    async def main() -> None:
        pile = Pile("a", open_at_mono=1e-9)
        assert await turnstile_of(pile.take).get() == "a"
        assert pile.asked_at_mono == [0.0, 0.001]

    virtual_time.run(main())


def test_closing_dismisses_everybody_now_and_later_and_asks_for_no_more_work() -> None:
    async def main() -> None:
        pile = Pile("a", open_at_mono=30.0)
        turnstile = turnstile_of(pile.take)
        tasks = await workers(turnstile, 3)
        turnstile.close()
        assert [*await asyncio.gather(*tasks), await turnstile.get()] == [None] * 4
        await asyncio.sleep(60.0)
        assert pile.asked_at_mono == [0.0] * 3
        assert repr(turnstile) == "<Turnstile 0 waiting, closed>"

    virtual_time.run(main())


def test_work_is_not_given_to_a_worker_that_was_cancelled() -> None:
    async def main() -> None:
        pile = Pile()
        turnstile = turnstile_of(pile.take)
        first, second = await workers(turnstile, 2)
        first.cancel()
        await asyncio.sleep(0)
        pile.work.append("a")
        turnstile.wake()
        assert await second == "a"

    virtual_time.run(main())


def test_an_error_while_deciding_is_raised_in_a_worker_even_from_the_timer() -> None:
    asked: list[float] = []

    def take(now_mono: float) -> str | NotBefore:
        asked.append(now_mono)
        if len(asked) == 1:
            return NotBefore(10.0)
        raise ValueError("the input changed")

    async def main() -> None:
        turnstile = turnstile_of(take)
        with pytest.raises(ValueError, match="the input changed"):
            await turnstile.get()
        assert asked == [0.0, 10.0]
        turnstile.wake()  # nobody waits: nobody is asked
        assert asked == [0.0, 10.0]

    virtual_time.run(main())
