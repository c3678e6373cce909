"""The output for the person who waits: two bars on a terminal, elsewhere a plain line every few seconds."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn, Protocol, TextIO

from tqdm import tqdm

from runner.measure.in_flight import InFlight
from runner.measure.outputs.output import Output
from runner.measure.sample import Sample
from runner.streams import say

REDRAW_S: Final = 0.25
PLAIN_LINE_S: Final = 5.0
RATE_OVER_S: Final = 5.0
PLAIN_COLUMNS: Final = 100
PLAIN_ROWS: Final = 24


class Screen(Protocol):
    """Where a message goes that must not be torn by a progress bar."""

    def say(self, text: str) -> None:
        """Print a line that stays."""


class Progress(Output, Screen, Protocol):
    """Shows the samples on the same stream as messages."""


class _Rate:
    """Rate per second over the last few seconds; once all rows are counted, over the time that took."""

    def __init__(self, count: int, now_mono: float) -> None:
        self._began_mono = now_mono
        self._first = count
        self._seen: deque[tuple[float, int]] = deque([(now_mono, count)])
        self._final: float | None = None

    def at(self, count: int, total: int, now_mono: float) -> float:
        """Return the rate, now that `count` of `total` rows are counted."""
        if count >= total:
            if self._final is None:
                self._final = (count - self._first) / max(now_mono - self._began_mono, 1e-9)
            return self._final
        self._seen.append((now_mono, count))
        while len(self._seen) > 2 and now_mono - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        then_mono, before = self._seen[0]
        # The count may go back: a job that the service forgot is submitted again.
        return max(count - before, 0) / max(now_mono - then_mono, 1e-9)


class _Rates:
    """Rates of submitted and of finished rows, from the beginning of a session."""

    def __init__(self, in_flight: InFlight, clock_mono: Callable[[], float]) -> None:
        self._in_flight = in_flight
        self._clock_mono = clock_mono
        now_mono = clock_mono()
        self._submitted = _Rate(in_flight.submitted, now_mono)
        self._done = _Rate(in_flight.finished, now_mono)

    def at(self, sample: Sample) -> tuple[float, float]:
        """Return both per second: submitted, done."""
        now_mono, total = self._clock_mono(), self._in_flight.total
        return (
            self._submitted.at(sample.submitted, total, now_mono),
            self._done.at(sample.done, total, now_mono),
        )


class Bars:
    """Two tqdm bars: submitted; completed, with in flight, retries and failures beside it."""

    every_s = REDRAW_S
    _rates: _Rates

    def __init__(self, in_flight: InFlight, stream: TextIO, clock_mono: Callable[[], float]) -> None:
        self._in_flight = in_flight
        self._stream = stream
        self._clock_mono = clock_mono
        self._bars: list[tqdm[NoReturn]] = []

    def start(self) -> None:
        """Begin to measure rates; the bars appear with the first sample."""
        self._rates = _Rates(self._in_flight, self._clock_mono)

    def add(self, sample: Sample) -> None:
        """Draw both bars."""
        submitted_per_s, done_per_s = self._rates.at(sample)
        failed, retries = sample.not_completed, sample.retry_count
        beside = f"in flight {sample.in_flight:,} · retries {retries:,} · failed {failed:,}"
        if not self._bars:
            self._bars = [self._bar("submitted", 0), self._bar("completed", 1)]
        for bar, count, text in zip(
            self._bars,
            (sample.submitted, sample.completed),
            (f"{submitted_per_s:,.0f}/s", f"{done_per_s:,.0f}/s · {beside}"),
            strict=True,
        ):
            bar.set_postfix_str(text, refresh=False)
            bar.update(count - bar.n)
            bar.refresh()

    def stop(self) -> None:
        """Leave the bars as they are, and the cursor below them."""
        for bar in self._bars:
            bar.close()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        tqdm.write(text, file=self._stream)

    def _bar(self, name: str, position: int) -> tqdm[NoReturn]:
        # A pseudo-terminal that was never given a size says 0 columns, and tqdm would draw nothing.
        has_size = os.get_terminal_size(self._stream.fileno()).columns > 0
        return tqdm(
            desc=name,
            position=position,
            total=self._in_flight.total,
            file=self._stream,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}",
            dynamic_ncols=has_size,
            ncols=None if has_size else PLAIN_COLUMNS,
            nrows=None if has_size else PLAIN_ROWS,
        )


class Silent:
    """`--quiet`: prints messages only, as long as somebody reads them."""

    every_s = math.inf

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def start(self) -> None:
        """Do nothing."""

    def add(self, sample: Sample) -> None:
        """Ignore the sample."""

    def stop(self) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Print a line."""
        say(text, self._stream)


class Lines:
    """A line every `PLAIN_LINE_S`, for logs and pipes."""

    every_s = REDRAW_S
    """More often than a line is printed: the rate needs the time at which the last row was submitted."""
    _rates: _Rates

    def __init__(self, in_flight: InFlight, stream: TextIO, clock_mono: Callable[[], float]) -> None:
        self._in_flight = in_flight
        self._stream = stream
        self._clock_mono = clock_mono
        self._printed_mono = 0.0
        self._unprinted = ""

    def start(self) -> None:
        """Begin to measure rates."""
        self._rates = _Rates(self._in_flight, self._clock_mono)
        self._printed_mono = self._clock_mono()

    def add(self, sample: Sample) -> None:
        """Print a line, if the last one was long enough ago."""
        self._unprinted = self._line(sample)
        if self._clock_mono() - self._printed_mono >= PLAIN_LINE_S:
            self._print()

    def stop(self) -> None:
        """Print the line of the last sample, unless it is printed already."""
        if self._unprinted:
            self._print()

    def say(self, text: str) -> None:
        """Print a line."""
        say(text, self._stream)

    def _print(self) -> None:
        self._printed_mono = self._clock_mono()
        self.say(self._unprinted)
        self._unprinted = ""

    def _line(self, sample: Sample) -> str:
        submitted_per_s, done_per_s = self._rates.at(sample)
        total = self._in_flight.total
        return (
            f"{time.strftime('%H:%M:%S', time.localtime(sample.at))}  "
            f"submitted {sample.submitted:,}/{total:,} ({submitted_per_s:,.0f}/s)  "
            f"completed {sample.completed:,} ({done_per_s:,.0f}/s)  "
            f"in flight {sample.in_flight:,}  retries {sample.retry_count:,}  failed {sample.not_completed:,}"
        )


def open_progress(in_flight: InFlight, *, quiet: bool) -> Progress:
    """Return the progress that suits stderr: bars on a terminal, lines elsewhere, or silence."""
    if quiet:
        return Silent(sys.stderr)
    if sys.stderr.isatty():
        return Bars(in_flight, sys.stderr, time.monotonic)
    return Lines(in_flight, sys.stderr, time.monotonic)
