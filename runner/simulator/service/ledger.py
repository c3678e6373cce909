"""The state file: one JSON line per event of a job or batch, written before the reply.

Owns the file and its lock. A simulator restarted after a kill reads it and knows every job and key again.
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
from runner.simulator.service.batch import BatchTerms
from runner.simulator.service.interner import Interner
from runner.simulator.service.job import JobTerms
from runner.simulator.service.refusals import Refusal

_LOCK_WAIT_S: Final = 5.0
_SHARED: Final = ("scope", "model", "parameters", "metadata", "batch")


class Cancelled(msgspec.Struct, frozen=True, tag="cancelled", tag_field="event"):
    """A job was cancelled."""

    id: str
    at: float
    """Time of the event, in Unix seconds."""


class Deleted(msgspec.Struct, frozen=True, tag="deleted", tag_field="event"):
    """A job was deleted."""

    id: str
    at: float
    """Time of the event, in Unix seconds."""


class Delivered(msgspec.Struct, frozen=True, tag="delivered", tag_field="event"):
    """A job's final response was sent."""

    id: str
    at: float
    """Time of the event, in Unix seconds."""


LedgerEvent = JobTerms | BatchTerms | Cancelled | Deleted | Delivered


class Ledger:
    """The open state file. Its constructor raises ConfigError if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encode = msgspec.json.Encoder().encode_lines
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(Problem(f"cannot open the state file: {error.strerror}", str(path))) from None
        self._lock()

    def _lock(self) -> None:
        # The simulator of a killed run needs a moment to notice that and release the lock.
        give_up_mono = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > give_up_mono:
                    self.close()
                    problem = Problem(
                        "another simulator uses this state file", str(self._path), "stop that one first"
                    )
                    raise ConfigError(problem) from None
                time.sleep(0.02)
            else:
                return

    def read(self) -> Iterator[LedgerEvent]:
        """Yield all events in order, and cut a torn last line off the file. Raises ConfigError."""
        decode = msgspec.json.Decoder(LedgerEvent).decode
        whole = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._fd, whole)
                    return
                whole += len(line)
                try:
                    event: LedgerEvent = decode(line)
                except msgspec.DecodeError as error:
                    problem = Problem(
                        f"not a line of a simulator state file: {error}", f"{self._path}:{number}"
                    )
                    raise ConfigError(problem) from None
                yield event

    def write(self, *events: LedgerEvent) -> None:
        """Append events to the page cache: they outlive this process, but not the machine.

        Raises Refusal (500) if the disk is full; then none of these lines is in the file, not even in part.
        """
        lines = self._encode(events)
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._fd, lines[written:])
        except OSError as error:
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            message = f"The request cannot be stored: {error.strerror}."
            raise Refusal(500, message, type="server_error", code="storage") from None

    def close(self) -> None:
        """Close the file and release its lock."""
        os.close(self._fd)


def share_strings(terms: JobTerms, interner: Interner) -> None:
    """Replace the strings of a job read from the file by shared ones."""
    for name in _SHARED:
        text = getattr(terms, name)
        if text is not None:
            msgspec.structs.force_setattr(terms, name, interner.intern(text))
