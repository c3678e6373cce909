"""What a person sees: two bars on a terminal, plain lines elsewhere, only what stays with --quiet."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import termios
from collections.abc import Callable
from typing import Any

import pytest

from runner.measure import progress
from runner.measure.meter import Meter
from runner.measure.progress import Bars, Lines, Silent, open_progress
from runner.records import Timing, Usage


@pytest.fixture
def meter(timing: Callable[..., Timing]):
    """2,000 requests: one completed, one failed, three open, two retries."""
    meter = Meter(2000)
    meter.finished("completed", timing(), Usage())
    meter.finished("failed", timing(), Usage())
    meter.open = 3
    meter.submit_retries["429"] += 2
    return meter


@pytest.fixture(params=[0, 40, 160], ids=lambda columns: f"{columns} columns")
def terminal(request: pytest.FixtureRequest):
    """A pseudo-terminal of that width (0: it was never told), and a function that reads what was drawn."""
    ours, theirs = os.openpty()
    fcntl.ioctl(
        theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if request.param else 0, request.param, 0, 0)
    )
    stream = os.fdopen(theirs, "w", encoding="utf-8")

    def drawn() -> str:
        stream.write("<end>")
        stream.flush()
        read = b""
        while not read.endswith(b"<end>"):  # it arrives in parts
            read += os.read(ours, 1 << 16)
        return read.removesuffix(b"<end>").decode(errors="replace")

    yield stream, drawn, request.param
    stream.close()
    os.close(ours)


def test_two_bars_show_submitted_and_completed_with_the_rest_beside(meter: Any, terminal: Any) -> None:
    stream, drawn, columns = terminal
    bars = Bars(meter, stream)
    bars.say("a line that stays")
    bars.close()
    text = drawn()

    assert "a line that stays\r\n" in text
    assert "submitted" in text
    assert "completed" in text
    if columns != 40:
        assert "5/2000" in text
        assert "1/2000" in text
        assert "in flight 3 · retries 2 · failed 1" in text


def test_a_plain_line_has_it_all_and_the_last_is_always_printed(meter: Any) -> None:
    stream = io.StringIO()
    lines = Lines(meter, stream)
    lines.draw()
    assert stream.getvalue() == ""
    lines.close()

    (line,) = stream.getvalue().splitlines()
    for part in ("submitted 5/2,000", "completed 1", "in flight 3", "retries 2", "failed 1"):
        assert part in line
    assert "\r" not in line


def test_plain_lines_come_every_few_seconds(meter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    lines = Lines(meter, stream)
    for _ in range(4 * 21):
        now[0] += 0.25
        lines.draw()

    assert stream.getvalue().count("\n") == 4


def test_quiet_prints_only_what_stays(meter: Any) -> None:
    stream = io.StringIO()
    silent = Silent(stream)
    silent.draw()
    silent.close()
    assert stream.getvalue() == ""
    silent.say("kept")
    assert stream.getvalue() == "kept\n"


def test_the_right_one_is_chosen_for_where_stderr_goes(
    meter: Any, terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_progress(meter, quiet=True), Silent)
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())
    assert isinstance(open_progress(meter, quiet=False), Lines)
    monkeypatch.setattr(progress.sys, "stderr", terminal[0])
    bars = open_progress(meter, quiet=False)
    assert isinstance(bars, Bars)
    bars.close()
