"""One worker for a follower of batch mode: it polls whatever is due, as the collector's workers do."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from runner.session.clock import Clock
from runner.session.follower import Follower, Watched
from runner.session.turnstile import NotBefore

W = TypeVar("W", bound=Watched)


async def poll_due(follower: Follower[W], clock: Clock, until_mono: float = float("inf")) -> int:
    """Poll until `until_mono`, or until nothing is left to poll, and return the number of polls."""
    polls = 0
    while True:
        work = follower.take(clock.now_mono())
        if not isinstance(work, NotBefore):
            polls += 1
            await follower.poll(work)
            await asyncio.sleep(0.0)
            continue
        if work.at_mono > until_mono:
            await asyncio.sleep(until_mono - clock.now_mono())
        if work.at_mono > until_mono or work.at_mono == float("inf"):
            return polls
        await asyncio.sleep(work.at_mono - clock.now_mono())
