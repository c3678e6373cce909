"""Saying something to a person, who may have gone away: no reason to stop a run that costs money."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def say(text: str, stream: TextIO) -> bool:
    """Print a line and flush it. Returns whether it could be written; if not, the stream is let go."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        let_go(stream)
        return False
    return True


def let_go(stream: TextIO) -> None:
    """Send what is left in the buffer nowhere: Python would try it again at exit, and end with 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_missing() -> None:
    """Give a process that was started without stdin, stdout or stderr ones that lead nowhere.

    Else the next file that is opened takes the number, and is written to, or closed, as that stream.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, os.fdopen(fd, "r" if fd == 0 else "w", closefd=False))
