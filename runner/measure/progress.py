"""What a person sees while a run runs: two bars on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from typing import Final, NoReturn, Protocol, TextIO

from tqdm import tqdm

from runner.measure.meter import Meter
from runner.streams import say

REDRAW_S: Final = 0.25
PLAIN_LINE_S: Final = 5.0
RATE_OVER_S: Final = 5.0
PLAIN_COLUMNS: Final = 100
PLAIN_ROWS: Final = 24


class Progress(Protocol):
    """Draws the meter; never changes it."""

    def draw(self) -> None:
        """Show how things stand now."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def close(self) -> None:
        """Show how things ended, and let go of the terminal."""


class _Rate:
    """How many a second over the last few seconds; once all are there, over the time it took."""

    def __init__(self, count: int) -> None:
        self._began = time.monotonic()
        self._first = count
        self._seen: deque[tuple[float, int]] = deque([(self._began, count)])
        self._final: float | None = None

    def at(self, count: int, total: int) -> float:
        """The rate, now that `count` of `total` are there."""
        now = time.monotonic()
        if count >= total:
            if self._final is None:
                self._final = (count - self._first) / max(now - self._began, 1e-9)
            return self._final
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        then, before = self._seen[0]
        # A job that a service forgot is submitted once more: the count may go back.
        return max(count - before, 0) / max(now - then, 1e-9)


class Bars:
    """Two tqdm bars: submitted, and completed with in flight, retries and failures beside it."""

    def __init__(self, meter: Meter, stream: TextIO) -> None:
        self._meter = meter
        self._stream = stream
        # A pseudo-terminal that was never given a size says 0 columns, and tqdm would draw nothing.
        has_size = os.get_terminal_size(stream.fileno()).columns > 0

        def bar(name: str, position: int, initial: int) -> tqdm[NoReturn]:
            return tqdm(
                desc=name,
                position=position,
                initial=initial,
                total=meter.total,
                file=stream,
                bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}",
                dynamic_ncols=has_size,
                ncols=None if has_size else PLAIN_COLUMNS,
                nrows=None if has_size else PLAIN_ROWS,
            )

        self._submitted = bar("submitted", 0, meter.submitted)
        self._completed = bar("completed", 1, meter.statuses["completed"])
        self._submit_rate = _Rate(meter.submitted)
        self._complete_rate = _Rate(meter.done)

    def draw(self) -> None:
        meter = self._meter
        submit_rate = self._submit_rate.at(meter.submitted, meter.total)
        rate = self._complete_rate.at(meter.done, meter.total)
        self._submitted.set_postfix_str(f"{submit_rate:,.0f}/s", refresh=False)
        beside = f"in flight {meter.open:,} · retries {meter.retries:,} · failed {meter.not_completed:,}"
        self._completed.set_postfix_str(f"{rate:,.0f}/s · {beside}", refresh=False)
        for bar, value in (
            (self._submitted, meter.submitted),
            (self._completed, meter.statuses["completed"]),
        ):
            bar.update(value - bar.n)
            bar.refresh()

    def say(self, text: str) -> None:
        tqdm.write(text, file=self._stream)

    def close(self) -> None:
        self.draw()
        self._submitted.close()
        self._completed.close()


class Silent:
    """`--quiet`: only what stays is said, for as long as somebody reads it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        say(text, self._stream)

    def close(self) -> None:
        """Nothing."""


class Lines(Silent):
    """A line every `PLAIN_LINE_S`: for logs and pipes."""

    def __init__(self, meter: Meter, stream: TextIO) -> None:
        super().__init__(stream)
        self._meter = meter
        self._drawn_at = time.monotonic()
        self._submit_rate = _Rate(meter.submitted)
        self._complete_rate = _Rate(meter.done)

    def draw(self) -> None:
        self._submit_rate.at(self._meter.submitted, self._meter.total)  # notes when the last one was sent
        if time.monotonic() - self._drawn_at >= PLAIN_LINE_S:
            self.close()

    def close(self) -> None:
        meter = self._meter
        self._drawn_at = time.monotonic()
        submit_rate = self._submit_rate.at(meter.submitted, meter.total)
        rate = self._complete_rate.at(meter.done, meter.total)
        self.say(
            f"{time.strftime('%H:%M:%S')}  "
            f"submitted {meter.submitted:,}/{meter.total:,} ({submit_rate:,.0f}/s)  "
            f"completed {meter.statuses['completed']:,} ({rate:,.0f}/s)  "
            f"in flight {meter.open:,}  retries {meter.retries:,}  failed {meter.not_completed:,}"
        )


def open_progress(meter: Meter, *, quiet: bool) -> Progress:
    """The right one for where stderr goes."""
    if quiet:
        return Silent(sys.stderr)
    if sys.stderr.isatty():
        return Bars(meter, sys.stderr)
    return Lines(meter, sys.stderr)
