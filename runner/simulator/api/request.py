"""A request as the API sees it: parsed from the wire, not yet checked."""

from __future__ import annotations

import msgspec


class HttpRequest(msgspec.Struct):
    """One HTTP request with its whole body."""

    method: str
    path: str
    """The path with its query."""
    headers: dict[bytes, bytes]
    """Headers by name in lower case."""
    keep_alive: bool
    chunks: bool
    """Whether the client understands a reply in chunks."""
    body: bytes | bytearray = b""
