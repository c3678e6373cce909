"""A SIGKILL that a test can place at one write of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from hypothesis import event


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the runner catches it, and nothing is written after it."""


@dataclass(frozen=True)
class Death:
    """A kill during the `write`-th write (from 0), of which only the first `byte` bytes reach the file."""

    write: int
    byte: int


@contextmanager
def dying(death: Death | None) -> Iterator[None]:
    """Run the block until this death, or to its end if it makes fewer writes."""
    write, writes = os.write, 0

    def mortal(fd: int, data: Any) -> int:
        nonlocal writes
        if death and writes == death.write:
            write(fd, data[: death.byte])
            raise Killed
        writes += 1
        return write(fd, data)

    with mock.patch.multiple("os", write=mortal, fsync=id, fdatasync=id):  # a kill, not a power cut
        try:
            yield
        except Killed:
            event("killed")
