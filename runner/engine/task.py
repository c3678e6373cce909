"""One session of a run, ready to be worked on: by this process alone, or by several."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from runner.commands.signals import Signals
from runner.config import RunConfig
from runner.errors import LimitReached, Problem, StorageError
from runner.measure.history import History
from runner.measure.progress import REDRAW_S, Progress
from runner.measure.series import Series
from runner.measure.vitals import Vitals
from runner.session.clock import Clock
from runner.session.shutdown import Closing
from runner.source import Source
from runner.store import Manifest, RunDir

SAMPLE_S: Final = 1.0
GC_THRESHOLD: Final = 50_000
"""Allocations between collections: a run makes few cycles, and the default looks for them all the time."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, and what goes with it."""

    config: RunConfig
    run_dir: RunDir
    manifest: Manifest
    key: str
    base_url: str
    source: Source
    history: History
    rows: int
    """Rows of the input to send: all, or the first of them."""
    vitals: Vitals
    progress: Progress
    signals: Signals

    @property
    def session(self) -> int:
        """Its number, from 0."""
        return self.history.next_session


class Display:
    """Shows how a session stands: progress for people several times a second, `metrics.jsonl` once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._clock = Clock()
        self._started = self._clock.now()
        meter, session = task.history.meter, task.history.session
        self._series = Series(task.run_dir.metrics, meter, task.vitals, session)

    async def show_for_ever(self) -> None:
        """Raises `StorageError`."""
        due = self._clock.now() + SAMPLE_S
        while True:
            self._task.progress.draw()
            await asyncio.sleep(REDRAW_S)
            if self._clock.now() >= due:
                due += SAMPLE_S
                self._sample()

    def close(self) -> None:
        """Write the last sample. Raises `StorageError`."""
        try:
            self._sample()
        finally:
            self._series.close()

    def _sample(self) -> None:
        now = self._clock.now()
        self._task.history.session.wall_s = now - self._started
        self._series.sample(self._clock.unix(now))


@contextmanager
def displayed(task: Task) -> Iterator[Display]:
    """A display for the time of a session; an error in its last sample is told where there is no other."""
    display = Display(task)
    try:
        yield display
    except BaseException:  # a signal, too: the last sample is written all the same
        with suppress(StorageError):  # the first error counts
            display.close()
        raise
    display.close()


def take_orders(task: Task, closing: Closing) -> None:
    """From now on signals, those that came before included, and `limits.max_s` end the session."""
    loop = asyncio.get_running_loop()
    task.signals.hand_to(loop, closing.signal)
    for signum in task.signals.received:  # while the simulator or a transport was starting
        closing.signal(signum)
    max_s = task.config.limits.max_s
    if max_s is not None:
        over = LimitReached(Problem("the time is over", f"limits.max_s {max_s:g}"))
        loop.call_later(max_s, closing.drain, over, "limits.max_s")


def tune_gc() -> None:
    """What is there now stays; what a run makes is freed by counting references."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
