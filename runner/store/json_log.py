"""Values as JSON lines of a log, many with one call of the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from runner.store.files import AppendLog

Value = TypeVar("Value")
_encode: Final = msgspec.json.Encoder().encode


class JsonLog(Generic[Value]):
    """What is kept goes out with the next `flush` or `write`, in order."""

    def __init__(self, path: Path) -> None:
        self.log = AppendLog(path)
        self._pending = bytearray()

    def add(self, value: Value) -> None:
        """Add a line to those of the next `flush`."""
        self._pending += _encode(value)
        self._pending += b"\n"

    def flush(self, *, is_owed: bool = True) -> None:
        """Hand over to the kernel what was kept. Raises `StorageError`; see `AppendLog.append`."""
        if self._pending:
            lines, self._pending = bytes(self._pending), bytearray()
            self.log.append(lines, is_owed=is_owed)

    def write(self, *values: Value, is_owed: bool = True) -> None:
        """As `flush`, with these values behind what was kept; only they are lost where they are not owed."""
        self.flush()
        for value in values:
            self.add(value)
        self.flush(is_owed=is_owed)
