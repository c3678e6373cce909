"""The map of statuses of a batch, possibly megabytes, read for the requests that are done."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from runner.records import ResultStatus, done_status

PIECE_BYTES: Final = 1 << 17
"""Bytes searched in one go: a few milliseconds for which the event loop is blocked."""
_WORDS: Final = ("completed", "failed", "cancelled", "canceled", "expired", "incomplete")
_PLAIN: Final = b'":{"status":"'
_QUOTES: Final = 6
"""Quotes around one request in the most compact form of a map: `"id":{"status":"WORD"}`."""
_DONE: Final = re.compile(rb'"([a-z0-9][a-z0-9_-]*)":\{"status":"((?i:%b))"\}' % "|".join(_WORDS).encode())


class _Status(msgspec.Struct, gc=False):
    status: str = ""


_decode: Final = msgspec.json.Decoder(dict[str, _Status]).decode

EndedRequest = tuple[str, ResultStatus]
"""Id of a request in its batch, and how it ended."""


def ended_in(status_map: msgspec.Raw) -> Iterator[list[EndedRequest]]:
    """Yield all requests that are done, in the order of the map, a piece at a time.

    In a map of the most compact form, only requests that are done become objects; a map of any other form is
    decoded whole. Raises `msgspec.DecodeError` if it is not a map of statuses.
    """
    text = bytes(status_map)
    if _is_plain(text):
        yield from _ended_in_plain(text)
        return
    statuses = _decode(text)
    yield [(name, ended) for name, it in statuses.items() if (ended := done_status(it.status)) is not None]


def words_in(status_map: msgspec.Raw) -> Counter[str]:
    """Count requests by status, in the service's words, in lower case.

    Raises `msgspec.DecodeError` if it is not a map of statuses.
    """
    return Counter(it.status.lower() for it in _decode(status_map).values())


def _is_plain(text: bytes) -> bool:
    """Return whether every request stands in the map in the form that `_DONE` finds, and nothing else does.

    Another field of a request would have quotes of its own. A space could stand before a bracket, and a
    letter could be written as an escape.
    """
    count = text.count(_PLAIN)
    return (
        text.count(b"{") - 1 == text.count(b"}") - 1 == text.count(b'"}') == count
        and text.count(b'"') == _QUOTES * count
        and b"\\" not in text
    )


def _ended_in_plain(text: bytes) -> Iterator[list[EndedRequest]]:
    start, size = 0, len(text)
    while start < size:
        stop = text.find(b"}", start + PIECE_BYTES) + 1 or size
        piece: list[EndedRequest] = []
        for found in _DONE.finditer(text, start, stop):
            name, word = found.groups()
            ended = done_status(word.decode())
            if ended is not None:
                piece.append((name.decode(), ended))
        yield piece
        start = stop
