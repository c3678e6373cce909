"""The state file: one JSON line for each thing that happened to a job or batch, written before the answer.

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
from runner.simulator.service.batch import BatchTerms
from runner.simulator.service.job import JobTerms
from runner.simulator.service.refusals import Refusal

_LOCK_WAIT_S: Final = 5.0
_SHARED: Final = ("scope", "model", "parameters", "metadata", "batch")
_SHARED_AT_MOST: Final = 4096


class Cancelled(msgspec.Struct, frozen=True, tag="cancelled", tag_field="event"):
    id: str
    at: float


class Deleted(msgspec.Struct, frozen=True, tag="deleted", tag_field="event"):
    id: str
    at: float


class Delivered(msgspec.Struct, frozen=True, tag="delivered", tag_field="event"):
    id: str
    at: float


LedgerEvent = JobTerms | BatchTerms | Cancelled | Deleted | Delivered


class Ledger:
    """Raises ConfigError where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encode = msgspec.json.Encoder().encode_lines
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

    def read(self) -> Iterator[LedgerEvent]:
        """All that happened, in order; cuts a torn last line off the file."""
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
                    problem = Problem(f"is no simulator state: {error}", f"{self._path}:{number}")
                    raise ConfigError(problem) from None
                yield event

    def write(self, *events: LedgerEvent) -> None:
        """In the page cache when this returns: it outlives this process, not the machine.

        Raises Refusal (500) where the disk is full, and leaves none of these lines there, nor half of one.
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
        os.close(self._fd)


class Interner:
    """Makes the jobs of a file share their strings: a million of one run repeat a handful of these."""

    def __init__(self) -> None:
        self._strings: dict[str, str] = {}

    def share(self, terms: JobTerms) -> None:
        if len(self._strings) >= _SHARED_AT_MOST:
            self._strings.clear()
        strings = self._strings
        for name in _SHARED:
            text = getattr(terms, name)
            if text is not None:
                msgspec.structs.force_setattr(terms, name, strings.setdefault(text, text))
