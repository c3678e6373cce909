"""The one place where workers wait: order, timers, closing, and errors that must reach a worker."""

import asyncio
import time
from collections import deque

import pytest
import uvloop

from runner.session.turnstile import Turnstile


class Pile:
    """Work that may be taken from `open_at` on."""

    def __init__(self):
        self.work = deque()
        self.open_at = 0.0
        self.asked = 0

    def take(self, now):
        self.asked += 1
        if self.open_at > now:
            return None, self.open_at
        return (self.work.popleft(), None) if self.work else (None, None)


def in_loop(coroutine):
    return uvloop.run(asyncio.wait_for(coroutine, 20))


def test_work_that_is_there_is_given_without_waiting() -> None:
    async def scene():
        pile = Pile()
        pile.work.extend([1, 2])
        turnstile = Turnstile(pile.take, time.monotonic)
        return [await turnstile.get(), await turnstile.get()]

    assert in_loop(scene()) == [1, 2]


def test_waiting_workers_are_served_in_the_order_they_came() -> None:
    async def scene():
        pile = Pile()
        turnstile = Turnstile(pile.take, time.monotonic)
        got = []

        async def worker(name):
            got.append((name, await turnstile.get()))

        tasks = [asyncio.ensure_future(worker(name)) for name in "abc"]
        await asyncio.sleep(0)
        pile.work.extend([1, 2, 3])
        turnstile.wake()
        await asyncio.gather(*tasks)
        return got

    assert in_loop(scene()) == [("a", 1), ("b", 2), ("c", 3)]


def test_work_that_is_due_later_is_given_then_with_one_timer_for_all_waiters() -> None:
    async def scene():
        pile = Pile()
        pile.work.extend(range(50))
        pile.open_at = time.monotonic() + 0.05
        turnstile = Turnstile(pile.take, time.monotonic)
        got = await asyncio.gather(*(turnstile.get() for _ in range(50)))
        return got, time.monotonic() - pile.open_at, pile.asked

    got, late_s, asked = in_loop(scene())
    assert got == list(range(50))
    assert late_s >= 0
    assert asked <= 50 + 50 + 3  # each once on arrival, each once when the time had come


def test_an_earlier_time_moves_the_timer_forward() -> None:
    async def scene():
        pile = Pile()
        pile.work.append("x")
        pile.open_at = time.monotonic() + 1000
        turnstile = Turnstile(pile.take, time.monotonic)
        waiting = asyncio.ensure_future(turnstile.get())
        await asyncio.sleep(0)
        pile.open_at = time.monotonic() + 0.02
        turnstile.wake()
        return await waiting

    assert in_loop(scene()) == "x"


def test_closing_sends_everybody_home_now_and_later() -> None:
    async def scene():
        turnstile = Turnstile(Pile().take, time.monotonic)
        waiting = [asyncio.ensure_future(turnstile.get()) for _ in range(3)]
        await asyncio.sleep(0)
        turnstile.close()
        return [*await asyncio.gather(*waiting), await turnstile.get()]

    assert in_loop(scene()) == [None, None, None, None]


def test_work_is_not_given_to_a_worker_that_was_cancelled() -> None:
    async def scene():
        pile = Pile()
        turnstile = Turnstile(pile.take, time.monotonic)
        first, second = (asyncio.ensure_future(turnstile.get()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        pile.work.append("x")
        turnstile.wake()
        return await second

    assert in_loop(scene()) == "x"


def test_an_error_while_deciding_is_raised_in_a_worker_even_from_the_timer() -> None:
    async def scene():
        asked = []

        def take(now):
            asked.append(now)
            if len(asked) == 1:
                return None, now + 0.01
            raise ValueError("the input changed")

        turnstile = Turnstile(take, time.monotonic)
        await turnstile.get()

    with pytest.raises(ValueError, match="the input changed"):
        in_loop(scene())
