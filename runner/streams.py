"""Prints to streams whose reader may have gone away, which is no reason to stop a paid run."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def say(text: str, stream: TextIO) -> bool:
    """Print a line and flush it; return whether it could be written. If not, the stream is discarded."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        let_go(stream)
        return False
    return True


def let_go(stream: TextIO) -> None:
    """Point a stream at /dev/null: Python would flush its buffer at exit, fail, and end with 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_missing() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that the process was started without.

    Otherwise the next file that is opened gets the number, and is written to, or closed, as that stream.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, os.fdopen(fd, "r" if fd == 0 else "w", closefd=False))
