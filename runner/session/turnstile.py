"""Where workers wait for work that is due later, or not allowed yet: one queue and one timer for all."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

Work = TypeVar("Work")
_SHORTEST_SLEEP_S: Final = 0.001  # the timer's resolution; shorter would only spin


class NotBefore(msgspec.Struct, frozen=True, gc=False):
    """The answer of a `take` that has no work now: nothing will be due before `at_mono`.

    Infinite where only an event makes work due, and not the passing of time.
    """

    at_mono: float


AFTER_AN_EVENT: Final = NotBefore(math.inf)


class Turnstile(Generic[Work]):
    """Hands each piece of work to one worker as soon as it may be done.

    `take(now_mono)` decides, without waiting: it returns work, or the time before which asking again is
    useless. It is the one place where the state behind it changes. `wake` makes the turnstile ask again.
    """

    def __init__(self, take: Callable[[float], Work | NotBefore], now_mono: Callable[[], float]) -> None:
        self._take = take
        self._now_mono = now_mono
        self._loop = asyncio.get_running_loop()
        self._waiters: deque[asyncio.Future[Work | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_mono = math.inf
        self.closed = False

    def __repr__(self) -> str:
        return f"<Turnstile {len(self._waiters)} waiting{', closed' if self.closed else ''}>"

    async def get(self) -> Work | None:
        """Return the next piece of work, or None when there will be no more."""
        if self.closed:
            return None
        work = self._take(self._now_mono())
        if not isinstance(work, NotBefore):
            return work
        waiter: asyncio.Future[Work | None] = self._loop.create_future()
        self._waiters.append(waiter)
        self._arm(work.at_mono)
        return await waiter

    def wake(self) -> None:
        """Give waiting workers what may be done now: something has changed."""
        while self._waiters:
            if self._waiters[0].done():  # its worker was cancelled
                self._waiters.popleft()
                continue
            try:
                work = self._take(self._now_mono())
            except Exception as error:  # noqa: BLE001 - raised in a worker, where the session hears of it
                self._waiters.popleft().set_exception(error)
                return
            if isinstance(work, NotBefore):
                self._arm(work.at_mono)
                return
            self._waiters.popleft().set_result(work)

    def close(self) -> None:
        """Hand out no more work and dismiss all waiting workers."""
        self.closed = True
        if self._timer:
            self._timer.cancel()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _arm(self, at_mono: float) -> None:
        if math.isinf(at_mono) or (self._timer and self._timer_at_mono <= at_mono):
            return
        if self._timer:
            self._timer.cancel()
        self._timer_at_mono = at_mono
        delay_s = max(at_mono - self._now_mono(), _SHORTEST_SLEEP_S)
        self._timer = self._loop.call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.wake()
