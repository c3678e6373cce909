"""Temporary files for request bodies that are too large to wait in memory."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from runner.store.files import storage_error

BUFFER_BYTES: Final = 1 << 20


class Spool:
    """A file that is written once, in pieces, then sent and discarded.

    It is never synced: after a power cut its content is made again from the input.
    """

    def __init__(self, path: Path) -> None:
        """Create the file, or empty it. Raises `StorageError`."""
        self.path = path
        self.size_bytes = 0
        self._hasher = hashlib.sha256()
        try:
            self._file = path.open("wb", buffering=BUFFER_BYTES)
        except OSError as error:
            raise storage_error("opened", path, error) from None

    def write(self, piece: bytes) -> None:
        """Add a piece to the end. Raises `StorageError`."""
        try:
            self._file.write(piece)
        except OSError as error:
            raise storage_error("written", self.path, error) from None
        self._hasher.update(piece)
        self.size_bytes += len(piece)

    def finish(self) -> bytes:
        """Hand everything to the kernel, and return the SHA-256 of the content. Raises `StorageError`."""
        try:
            self._file.close()
        except OSError as error:
            raise storage_error("written", self.path, error) from None
        return self._hasher.digest()

    def discard(self) -> None:
        """Remove the file; harmless to repeat."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
