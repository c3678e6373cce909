"""Work that outlives its connection: carried on by the loop, a slice each turn, until it is done."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from runner.simulator.api.reply import HttpReply, SlicedWork


class SliceScheduler:
    """All work shares one slice a turn, in rotation, so that many batches starve nobody either."""

    def __init__(self) -> None:
        self._ready: deque[tuple[SlicedWork, Callable[[HttpReply], None]]] = deque()
        self._turn: asyncio.Handle | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    def run(self, work: SlicedWork, answer: Callable[[HttpReply], None]) -> None:
        """`answer` is called with the reply, once it is made; the work may go on after it."""
        self._ready.append((work, answer))
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._advance)

    def close(self) -> None:
        """Drops what is not done, as a kill would."""
        if self._turn is not None:
            self._turn.cancel()
        for timer in self._timers:
            timer.cancel()
        self._ready.clear()
        self._timers.clear()

    def _advance(self) -> None:
        work, answer = self._ready.popleft()
        self._turn = None
        try:
            said = next(work, None)
        finally:  # an error ends this work, and no other
            if self._ready:
                self._turn = asyncio.get_running_loop().call_soon(self._advance)
        if said is None:
            return
        if isinstance(said, HttpReply):
            answer(said)
        elif said > 0:
            self._later(said, work, answer)
            return
        self.run(work, answer)

    def _later(self, wait_s: float, work: SlicedWork, answer: Callable[[HttpReply], None]) -> None:
        def then() -> None:
            self._timers.discard(timer)
            self.run(work, answer)

        timer = asyncio.get_running_loop().call_later(wait_s, then)
        self._timers.add(timer)
