"""Files of JSON lines: values written many at a time, and read back with the place of any damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from runner.errors import Problem, RunDirError
from runner.store.files import AppendLog

Value = TypeVar("Value")
_encode: Final = msgspec.json.Encoder().encode


class JsonLog(Generic[Value]):
    """A log of values, one line each. Added values go out in order, with the next `flush` or `write`."""

    def __init__(self, path: Path) -> None:
        self.log = AppendLog(path)
        self._pending = bytearray()

    def add(self, value: Value) -> None:
        """Add a line to the next `flush`."""
        self._pending += _encode(value)
        self._pending += b"\n"

    def flush(self, *, need_rescue: bool = True) -> None:
        """Hand all added lines to the kernel with one call. Raises `StorageError`; see `AppendLog.append`."""
        if self._pending:
            lines, self._pending = bytes(self._pending), bytearray()
            self.log.append(lines, need_rescue=need_rescue)

    def write(self, *values: Value, need_rescue: bool = True) -> None:
        """Flush what was added, then write `values`, to which alone `need_rescue` applies.

        Raises `StorageError`; see `AppendLog.append`.
        """
        self.flush()
        for value in values:
            self.add(value)
        self.flush(need_rescue=need_rescue)


def decode_line(path: Path, number: int, line: bytes, decode: Callable[[bytes], Value]) -> Value:
    """Return the value of line `number` (from 1) of a file. Raises `RunDirError` where it is damaged."""
    try:
        return decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDirError(
            Problem(
                f"is damaged: {error}",
                f"{path}:{number}",
                "restore the file, or start over with --new; guessing could lose or double a paid result",
            )
        ) from None
