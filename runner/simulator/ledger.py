"""The state file: one JSON line for each thing that happened to a job, written before it is answered.

Owns the file and its lock. A killed simulator that is started again reads it and remembers every job and key.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from runner.errors import ConfigError, Problem
from runner.simulator.job import Terms
from runner.simulator.refusals import Refusal

_LOCK_WAIT_S: Final = 5.0


class Cancelled(msgspec.Struct, frozen=True, tag="cancelled", tag_field="event"):
    id: str
    at: float


class Deleted(msgspec.Struct, frozen=True, tag="deleted", tag_field="event"):
    id: str
    at: float


class Delivered(msgspec.Struct, frozen=True, tag="delivered", tag_field="event"):
    id: str
    at: float


Event = Terms | Cancelled | Deleted | Delivered


class Ledger:
    """Raises ConfigError where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encode = msgspec.json.Encoder().encode
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(Problem(f"cannot be opened: {error.strerror}", str(path))) from None
        self._lock()

    def _lock(self) -> None:
        # The simulator of a killed run needs a moment to notice and let go.
        give_up = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > give_up:
                    self.close()
                    problem = Problem(
                        "is in use by another simulator", str(self._path), "stop that one first"
                    )
                    raise ConfigError(problem) from None
                time.sleep(0.02)
            else:
                return

    def read(self) -> Iterator[Event]:
        """All that happened, in order; cuts a torn last line off the file."""
        decode = msgspec.json.Decoder(Event).decode
        whole = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._fd, whole)
                    return
                whole += len(line)
                try:
                    event: Event = decode(line)
                except msgspec.DecodeError as error:
                    problem = Problem(f"is no simulator state: {error}", f"{self._path}:{number}")
                    raise ConfigError(problem) from None
                yield event

    def write(self, event: Event) -> None:
        """In the page cache when this returns: it outlives this process, not the machine.

        Raises Refusal (500) where the disk is full, and leaves no half of a line there.
        """
        line = self._encode(event) + b"\n"
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            message = f"The request cannot be stored: {error.strerror}."
            raise Refusal(500, message, type="server_error", code="storage") from None

    def close(self) -> None:
        os.close(self._fd)
