"""Where workers wait for work that is due later, or not yet allowed: one list and one timer for all."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Work = TypeVar("Work")
_SHORTEST_SLEEP_S: Final = 0.001  # the timer's resolution; shorter would only spin


class Turnstile(Generic[Work]):
    """Hands each piece of work to one worker as soon as it may be done.

    `take(now)` decides, without waiting: it returns work, or None and the time at which to ask again
    (None or infinite: only after `wake`). It is the one place where the state behind it changes.
    """

    def __init__(
        self, take: Callable[[float], tuple[Work | None, float | None]], now: Callable[[], float]
    ) -> None:
        self._take = take
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._waiters: deque[asyncio.Future[Work | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self.closed = False

    def __repr__(self) -> str:
        return f"<Turnstile {len(self._waiters)} waiting{', closed' if self.closed else ''}>"

    async def get(self) -> Work | None:
        """The next piece of work; None when there will be no more."""
        if self.closed:
            return None
        work, ask_at = self._take(self._now())
        if work is not None:
            return work
        waiter: asyncio.Future[Work | None] = self._loop.create_future()
        self._waiters.append(waiter)
        self._arm(ask_at)
        return await waiter

    def wake(self) -> None:
        """Something changed: give waiting workers what may be done now."""
        while self._waiters:
            if self._waiters[0].done():  # its worker was cancelled
                self._waiters.popleft()
                continue
            try:
                work, ask_at = self._take(self._now())
            except Exception as error:  # noqa: BLE001 - raised in a worker, where the run hears of it
                self._waiters.popleft().set_exception(error)
                return
            if work is None:
                self._arm(ask_at)
                return
            self._waiters.popleft().set_result(work)

    def close(self) -> None:
        """No more work: send all workers home."""
        self.closed = True
        if self._timer:
            self._timer.cancel()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _arm(self, ask_at: float | None) -> None:
        if ask_at is None or math.isinf(ask_at) or (self._timer and self._timer_at <= ask_at):
            return
        if self._timer:
            self._timer.cancel()
        self._timer_at = ask_at
        self._timer = self._loop.call_later(max(ask_at - self._now(), _SHORTEST_SLEEP_S), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.wake()
