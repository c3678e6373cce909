"""What a person sees: two bars on a terminal, plain lines elsewhere, only messages with --quiet."""

from __future__ import annotations

import fcntl
import io
import math
import os
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

import msgspec
import pytest

from runner.measure.in_flight import InFlight
from runner.measure.outputs.progress import Bars, Lines, Silent, open_progress
from runner.measure.sample import CompletionTimes, Retries, Sample

IN_FLIGHT = InFlight(total=2000)
SAMPLE = Sample(
    at=1000.0,
    wall_s=10.0,
    began=990.0,
    requests={"completed": 1, "failed": 1},
    done=2,
    in_flight=3,
    posting=0,
    polls=0,
    accepting_s=0.0,
    accepted_per_s=0.0,
    completed_per_s=0.0,
    polls_per_s=0.0,
    wire={},
    retries=Retries(submit={"429": 2}, poll={}),
    completion_s=CompletionTimes(None, None),
    cpu_share=0.0,
    cpu_s=0.0,
    loop_lag_p99_s=None,
    rss_bytes=0,
)


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now_mono = 100.0

    def __call__(self) -> float:
        return self.now_mono


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass(frozen=True)
class Terminal:
    """A pseudo-terminal, and what was drawn on it."""

    columns: int
    stream: TextIO
    drawn: Callable[[], str]


@pytest.fixture(params=[0, 40, 160], ids=lambda columns: f"{columns} columns")
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """Open a pseudo-terminal of that width; one of 0 columns was never given a size."""
    ours, theirs = os.openpty()
    columns: int = request.param
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    stream = os.fdopen(theirs, "w", encoding="utf-8")

    def drawn() -> str:
        stream.write("<end>")
        stream.flush()
        read = b""
        while not read.endswith(b"<end>"):  # it arrives in parts
            read += os.read(ours, 1 << 16)
        return read.removesuffix(b"<end>").decode(errors="replace")

    yield Terminal(columns, stream, drawn)
    stream.close()
    os.close(ours)


def test_two_bars_show_submitted_and_completed_with_the_rest_beside(terminal: Terminal, clock: Clock) -> None:
    bars = Bars(IN_FLIGHT, terminal.stream, clock)
    bars.say("before the first sample")
    bars.start()
    bars.add(SAMPLE)
    bars.say("a line that stays")
    bars.stop()
    bars.say("after the end")
    text = terminal.drawn()

    for said in ("before the first sample", "a line that stays", "after the end"):
        assert f"{said}\r\n" in text
    assert "submitted" in text
    assert "completed" in text
    if terminal.columns != 40:
        assert "5/2000" in text
        assert "1/2000" in text
        assert "in flight 3 · retries 2 · failed 1" in text


def test_bars_that_were_started_without_a_sample_draw_nothing(terminal: Terminal, clock: Clock) -> None:
    bars = Bars(IN_FLIGHT, terminal.stream, clock)
    bars.start()
    bars.stop()

    assert terminal.drawn() == ""


def test_a_plain_line_has_it_all_and_the_last_is_always_printed(clock: Clock) -> None:
    stream = io.StringIO()
    lines = Lines(IN_FLIGHT, stream, clock)
    lines.start()
    lines.add(SAMPLE)
    assert stream.getvalue() == ""
    lines.stop()

    (line,) = stream.getvalue().splitlines()
    assert line.startswith(time.strftime("%H:%M:%S  ", time.localtime(1000.0)))
    for part in ("submitted 5/2,000", "completed 1", "in flight 3", "retries 2", "failed 1"):
        assert part in line
    assert "\r" not in line


def test_plain_lines_come_every_few_seconds_and_none_twice(clock: Clock) -> None:
    stream = io.StringIO()
    lines = Lines(IN_FLIGHT, stream, clock)
    lines.start()
    for _ in range(4 * 20):
        clock.now_mono += 0.25
        lines.add(SAMPLE)
    lines.stop()

    assert stream.getvalue().count("\n") == 4


def test_lines_that_were_started_without_a_sample_print_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    lines = Lines(IN_FLIGHT, stream, clock)
    lines.start()
    lines.stop()

    assert stream.getvalue() == ""


def _line(count: int, seconds: float, clock: Clock, *, before: int = 0, total: int = 2000) -> str:
    """Return the line about a session in which the count of done rows rises evenly, then stays for 1 s."""
    stream = io.StringIO()
    lines = Lines(InFlight(total=total, finished=before), stream, clock)
    lines.start()
    steps = 10
    for step in range(1, steps + 1):
        clock.now_mono += seconds / steps
        done = before + (count - before) * step // steps
        lines.add(msgspec.structs.replace(SAMPLE, requests={"completed": done}, done=done, in_flight=0))
    if count == total:
        clock.now_mono += 1.0
        lines.add(msgspec.structs.replace(SAMPLE, requests={"completed": count}, done=count, in_flight=0))
    lines.stop()
    return stream.getvalue().splitlines()[-1]


def test_the_rate_leaves_out_what_earlier_sessions_did(clock: Clock) -> None:
    assert "completed 1,100 (100/s)" in _line(1100, 1.0, clock, before=1000)


def test_once_all_is_done_the_rate_is_over_the_time_that_it_took(clock: Clock) -> None:
    assert "submitted 2,000/2,000 (500/s)  completed 2,000 (500/s)" in _line(2000, 4.0, clock)


def test_the_rate_is_over_the_last_few_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    lines = Lines(IN_FLIGHT, stream, clock)
    lines.start()
    for step in range(1, 41):  # ten a second, and then none
        clock.now_mono += 0.5
        done = min(step, 20) * 5
        lines.add(msgspec.structs.replace(SAMPLE, done=done, in_flight=0))
    lines.stop()

    first, *_, last = stream.getvalue().splitlines()
    assert "(10/s)" in first
    assert "(0/s)" in last


def test_a_job_that_is_submitted_again_makes_no_rate_negative(clock: Clock) -> None:
    stream = io.StringIO()
    lines = Lines(InFlight(total=10, outstanding=5), stream, clock)
    lines.start()
    clock.now_mono += 1.0
    lines.add(msgspec.structs.replace(SAMPLE, done=0, in_flight=4))
    lines.stop()

    assert "submitted 4/10 (0/s)" in stream.getvalue()


def test_quiet_prints_only_messages() -> None:
    stream = io.StringIO()
    silent = Silent(stream)
    silent.start()
    silent.add(SAMPLE)
    silent.stop()
    assert silent.every_s == math.inf
    assert stream.getvalue() == ""
    silent.say("kept")
    assert stream.getvalue() == "kept\n"


def test_progress_is_chosen_by_where_stderr_goes(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_progress(IN_FLIGHT, quiet=True), Silent)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(open_progress(IN_FLIGHT, quiet=False), Lines)
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    assert isinstance(open_progress(IN_FLIGHT, quiet=False), Bars)
