"""Streams a body that is too large for memory from a file to a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

from runner.errors import Problem, StorageError
from runner.transport.wire import Wire

PIECE_BYTES: Final = 256 * 1024


class Upload(msgspec.Struct, frozen=True):
    """A request body: the first `size_bytes` of a file, which must not change while it is sent."""

    path: Path
    size_bytes: int

    async def pieces(self, wire: Wire) -> AsyncIterator[bytes]:
        """Yield the body, read off the event loop, and count it as sent. Raises `StorageError`.

        No file is open between two pieces, so an upload can be abandoned at any of them.
        """
        for at in range(0, self.size_bytes, PIECE_BYTES):
            piece = await asyncio.to_thread(self.piece, at, min(PIECE_BYTES, self.size_bytes - at))
            wire["sent_bytes"] += len(piece)
            yield piece

    def piece(self, at: int, size: int) -> bytes:
        """Return `size` bytes of the body from offset `at` on. Raises `StorageError`."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(at)
                piece = file.read(size)
        except OSError as error:
            raise StorageError(
                Problem(f"the batch cannot be read: {error.strerror}", str(self.path))
            ) from error
        if len(piece) != size:
            raise StorageError(
                Problem(
                    f"the batch is shorter than the {self.size_bytes:,} bytes that were written",
                    str(self.path),
                )
            )
        return piece


class Sending:
    """Writes an upload to a connection, in a task of its own, while the caller waits for the answer.

    If the file cannot be read, the wait for the answer raises `StorageError`.
    """

    def __init__(self, protocol: ResponseHandler, upload: Upload, wire: Wire) -> None:
        self._protocol = protocol
        self._pieces = upload.pieces(wire)
        self._task = asyncio.create_task(self._send())
        self.is_whole = False

    def stop(self) -> None:
        """Send no more pieces."""
        self._task.cancel()

    def give_up(self) -> None:
        """Stop and abort the connection, with its unsent bytes: the service may never read them."""
        self.stop()
        self._protocol.abort()

    async def _send(self) -> None:
        writer = StreamWriter(self._protocol, asyncio.get_running_loop())
        try:
            async for piece in self._pieces:
                await writer.write(piece)
            await writer.drain()
        except StorageError as error:
            self._protocol.set_exception(error)
        except OSError:
            pass  # the connection is lost, and the wait for the answer raises
        else:
            self.is_whole = True
