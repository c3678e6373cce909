"""Work that outlives its connection: the event loop runs one slice of it each turn until it is done."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from runner.simulator.api.reply import HttpReply, SlicedWork


class SliceScheduler:
    """Runs all work in rotation, one slice per turn of the loop, so that many batches starve nobody."""

    def __init__(self) -> None:
        self._ready: deque[tuple[SlicedWork, Callable[[HttpReply], None]]] = deque()
        self._turn: asyncio.Handle | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    def run(self, work: SlicedWork, on_reply: Callable[[HttpReply], None]) -> None:
        """Run work to its end; `on_reply` is called with its reply, after which it may go on."""
        self._ready.append((work, on_reply))
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._advance)

    def close(self) -> None:
        """Drop unfinished work, as a kill would."""
        if self._turn is not None:
            self._turn.cancel()
        for timer in self._timers:
            timer.cancel()
        self._ready.clear()
        self._timers.clear()

    def _advance(self) -> None:
        work, on_reply = self._ready.popleft()
        self._turn = None
        try:
            step = next(work, None)
        finally:  # an error ends this work only
            if self._ready:
                self._turn = asyncio.get_running_loop().call_soon(self._advance)
        if step is None:
            return
        if isinstance(step, HttpReply):
            on_reply(step)
        elif step > 0:
            self._run_later(step, work, on_reply)
            return
        self.run(work, on_reply)

    def _run_later(self, wait_s: float, work: SlicedWork, on_reply: Callable[[HttpReply], None]) -> None:
        def wake() -> None:
            self._timers.discard(timer)
            self.run(work, on_reply)

        timer = asyncio.get_running_loop().call_later(wait_s, wake)
        self._timers.add(timer)
