"""How the client itself is doing: CPU, memory, how late the event loop runs."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from runner.measure.histogram import Counts, Histogram

PROBE_S: Final = 0.05
BUSY_SHARE: Final = 0.9
"""Of one core, over a whole second: from here on the client itself holds the rate down."""
LIMITED_SHARE: Final = 0.1
"""A run was limited by its client when it was busy for more than this share of its seconds."""
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


def cpu_s() -> float:
    """CPU seconds of this process so far, user and system."""
    return time.process_time()


def max_rss_bytes() -> int:
    """Peak resident memory of this process. Linux counts in `ru_maxrss` also what it was forked from."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


class Vitals:
    """Samples the loop's lateness all the time, and how busy the process was each second."""

    def __init__(self) -> None:
        self.loop_lag = Histogram()
        self._started_cpu_s = cpu_s()
        self._cpu_before_s = 0.0
        self._seconds = 0
        self._busy_seconds = 0

    @property
    def cpu_s(self) -> float:
        """CPU seconds of this session."""
        return cpu_s() - self._started_cpu_s

    @property
    def rss_bytes(self) -> int:
        """Peak resident memory."""
        return max_rss_bytes()

    @property
    def limited(self) -> bool:
        """Whether the client itself, not the service, held the rate down."""
        return self._busy_seconds > max(1, LIMITED_SHARE * self._seconds)

    def second_passed(self, elapsed_s: float) -> float:
        """Note the share of one core used since the last call, and return it."""
        now = self.cpu_s
        share = (now - self._cpu_before_s) / elapsed_s if elapsed_s > 0 else 0.0
        self._cpu_before_s = now
        self._seconds += 1
        self._busy_seconds += share >= BUSY_SHARE
        return share

    async def watch_loop(self) -> None:
        """Record for ever how much later than asked the loop wakes a sleeper."""
        while True:
            asked = time.monotonic() + PROBE_S
            await asyncio.sleep(PROBE_S)
            self.loop_lag.record(time.monotonic() - asked)


class Sign(NamedTuple):
    """How one worker process is doing."""

    cpu_s: float
    rss_bytes: int
    is_limited: bool


class Fleet(Vitals):
    """Of a main process and its workers: CPU and memory add up, and one that is too busy is enough."""

    def __init__(self) -> None:
        super().__init__()
        self._workers: dict[object, Sign] = {}

    def tell(self, worker: object, sign: Sign, loop_lag: Counts) -> None:
        """How a worker is doing since it began."""
        self._workers[worker] = sign
        self.loop_lag.add(loop_lag)

    @property
    def cpu_s(self) -> float:
        return super().cpu_s + sum(sign.cpu_s for sign in self._workers.values())

    @property
    def rss_bytes(self) -> int:
        return super().rss_bytes + sum(sign.rss_bytes for sign in self._workers.values())

    @property
    def limited(self) -> bool:
        return any(sign.is_limited for sign in self._workers.values())
