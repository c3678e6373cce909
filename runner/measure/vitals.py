"""How the client itself is doing: CPU, memory, and how late the event loop runs."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from runner.measure.histogram import Histogram, HistogramCounts

PROBE_S: Final = 0.05
BUSY_SHARE: Final = 0.9
"""Share of one core, over a whole second, from which on the client itself holds the rate down."""
LIMITED_SHARE: Final = 0.1
"""Share of a run's seconds: if the client was busy for more of them, it limited the run."""
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


def cpu_s() -> float:
    """Return the CPU seconds of this process so far, user and system."""
    return time.process_time()


def max_rss_bytes() -> int:
    """Return the peak resident memory of this process.

    On Linux it is read from `/proc`, because `ru_maxrss` includes the peak of the process that forked it.
    """
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


class Vitals:
    """Records the lateness of the event loop all the time, and the CPU of this process every second."""

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
        """Return the share of one core that was used since the last call, `elapsed_s` ago, and record it."""
        now_s = self.cpu_s
        share = (now_s - self._cpu_before_s) / elapsed_s if elapsed_s > 0 else 0.0
        self._cpu_before_s = now_s
        self._seconds += 1
        self._busy_seconds += share >= BUSY_SHARE
        return share

    async def watch_loop(self) -> None:
        """Record how late the loop wakes a sleeper, until cancelled."""
        while True:
            due_mono = time.monotonic() + PROBE_S
            await asyncio.sleep(PROBE_S)
            self.loop_lag.record(time.monotonic() - due_mono)


class WorkerVitals(msgspec.Struct, frozen=True):
    """How one worker process is doing, since it began."""

    cpu_s: float
    rss_bytes: int
    is_limited: bool


class Fleet(Vitals):
    """Vitals of a coordinator and its workers: CPU and memory add up, and one busy worker limits the run."""

    def __init__(self) -> None:
        super().__init__()
        self._workers: dict[object, WorkerVitals] = {}

    def report(self, worker: object, vitals: WorkerVitals, loop_lag: HistogramCounts) -> None:
        """Take the vitals of a worker since it began, and its loop lag since its last report."""
        self._workers[worker] = vitals
        self.loop_lag.add(loop_lag)

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all processes in this session."""
        return super().cpu_s + sum(vitals.cpu_s for vitals in self._workers.values())

    @property
    def rss_bytes(self) -> int:
        """Peak resident memory, summed over the processes."""
        return super().rss_bytes + sum(vitals.rss_bytes for vitals in self._workers.values())

    @property
    def limited(self) -> bool:
        """Whether at least one worker held its own rate down."""
        return any(vitals.is_limited for vitals in self._workers.values())
