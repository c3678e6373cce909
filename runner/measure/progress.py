"""What a person sees while a run runs: two bars on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from typing import Final, NoReturn, Protocol, TextIO

from tqdm import tqdm

from runner.measure.meter import Meter

REDRAW_S: Final = 0.25
PLAIN_LINE_S: Final = 5.0
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


class Bars:
    """Two tqdm bars: submitted, and completed with in flight, retries and failures beside it."""

    def __init__(self, meter: Meter, stream: TextIO) -> None:
        self._meter = meter
        self._stream = stream
        # A pseudo-terminal that was never given a size says 0 columns, and tqdm would draw nothing.
        has_size = os.get_terminal_size(stream.fileno()).columns > 0
        layout = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {rate_fmt}{postfix}"

        def bar(name: str, position: int, initial: int) -> tqdm[NoReturn]:
            return tqdm(
                desc=name,
                position=position,
                initial=initial,
                total=meter.total,
                file=stream,
                bar_format=layout,
                dynamic_ncols=has_size,
                ncols=None if has_size else PLAIN_COLUMNS,
                nrows=None if has_size else PLAIN_ROWS,
                unit="",
            )

        self._submitted = bar("submitted", 0, meter.submitted)
        self._completed = bar("completed", 1, meter.done)

    def draw(self) -> None:
        meter = self._meter
        self._completed.set_postfix_str(
            f"in flight {meter.open:,} · retries {meter.retries:,} · failed {meter.not_completed:,}",
            refresh=False,
        )
        for bar, value in ((self._submitted, meter.submitted), (self._completed, meter.done)):
            bar.update(value - bar.n)
            bar.refresh()

    def say(self, text: str) -> None:
        tqdm.write(text, file=self._stream)

    def close(self) -> None:
        self.draw()
        self._submitted.close()
        self._completed.close()


class Lines:
    """A line every `PLAIN_LINE_S`: for logs and pipes."""

    def __init__(self, meter: Meter, stream: TextIO) -> None:
        self._meter = meter
        self._stream = stream
        self._drawn_at = time.monotonic()
        self._drawn = (meter.submitted, meter.done)

    def draw(self) -> None:
        if time.monotonic() - self._drawn_at >= PLAIN_LINE_S:
            self._print()

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        self._print()

    def _print(self) -> None:
        meter, now = self._meter, time.monotonic()
        elapsed_s = max(now - self._drawn_at, 1e-9)
        submit_rate = (meter.submitted - self._drawn[0]) / elapsed_s
        rate = (meter.done - self._drawn[1]) / elapsed_s
        self._drawn_at, self._drawn = now, (meter.submitted, meter.done)
        self.say(
            f"{time.strftime('%H:%M:%S')}  "
            f"submitted {meter.submitted:,}/{meter.total:,} ({submit_rate:,.0f}/s)  "
            f"completed {meter.done:,} ({rate:,.0f}/s)  "
            f"in flight {meter.open:,}  retries {meter.retries:,}  failed {meter.not_completed:,}"
        )


class Silent:
    """`--quiet`: only what stays is said."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing."""


def open_progress(meter: Meter, *, quiet: bool) -> Progress:
    """The right one for where stderr goes."""
    if quiet:
        return Silent(sys.stderr)
    if sys.stderr.isatty():
        return Bars(meter, sys.stderr)
    return Lines(meter, sys.stderr)
