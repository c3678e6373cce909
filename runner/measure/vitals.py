"""How the client itself is doing: CPU, memory, how late the event loop runs."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from runner.measure.histogram import Histogram

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
        self._cpu_before_s = self.started_cpu_s = cpu_s()
        self._seconds = 0
        self._busy_seconds = 0

    @property
    def cpu_s(self) -> float:
        """CPU seconds of this session."""
        return cpu_s() - self.started_cpu_s

    @property
    def limited(self) -> bool:
        """Whether the client itself, not the service, held the rate down."""
        return self._busy_seconds > max(1, LIMITED_SHARE * self._seconds)

    def second_passed(self, elapsed_s: float) -> float:
        """Note the share of one core used since the last call, and return it."""
        now = cpu_s()
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
