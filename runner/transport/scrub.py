"""The API key kept out of everything that is written down, wherever a service echoes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.config.target import SHORTEST_SECRET

REDACTED: Final = "[API key]"


class Scrubber:
    """Replaces the key in bodies, header values and exception texts."""

    def __init__(self, key: str) -> None:
        is_secret = len(key) >= SHORTEST_SECRET
        self._text = key if is_secret else None
        # JSON may write a slash as \/ as well.
        spellings = dict.fromkeys((key, key.replace("/", "\\/"))) if is_secret else ()
        self._bytes = tuple(spelling.encode() for spelling in spellings)

    def body(self, body: bytes) -> bytes:
        for key in self._bytes:
            if key in body:
                body = body.replace(key, REDACTED.encode())
        return body

    def text(self, text: str) -> str:
        return text.replace(self._text, REDACTED) if self._text else text


class Headers:
    """The headers of an answer, each value scrubbed and valid Unicode; asked for without regard to case."""

    def __init__(self, headers: Mapping[str, str], scrub: Scrubber) -> None:
        self._headers = headers
        self._scrub = scrub

    def get(self, name: str) -> str | None:
        value = self._headers.get(name)
        if value is None:
            return None
        if not value.isascii():  # bytes that are no UTF-8 come as lone surrogates, which no file can hold
            value = value.encode("utf-8", "replace").decode()
        return self._scrub.text(value)
