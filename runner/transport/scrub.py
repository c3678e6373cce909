"""Redacts the API key in answers, wherever a service echoes it, before anything is written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.config.target import SHORTEST_SECRET

REDACTED: Final = "[API key]"


class Scrubber:
    """Redacts the key in bodies, header values and error texts, if it is long enough to be a secret."""

    def __init__(self, key: str) -> None:
        is_secret = len(key) >= SHORTEST_SECRET
        self._text = key if is_secret else None
        # JSON may write a slash as \/ as well.
        spellings = dict.fromkeys((key, key.replace("/", "\\/"))) if is_secret else ()
        self._bytes = tuple(spelling.encode() for spelling in spellings)

    def body(self, body: bytes) -> bytes:
        """Return `body` with the key redacted."""
        for key in self._bytes:
            if key in body:
                body = body.replace(key, REDACTED.encode())
        return body

    def text(self, text: str) -> str:
        """Return `text` with the key redacted."""
        return text.replace(self._text, REDACTED) if self._text else text


class Headers:
    """Headers of an answer, with values redacted and made valid Unicode; names are compared without case."""

    def __init__(self, headers: Mapping[str, str], scrub: Scrubber) -> None:
        self._headers = headers
        self._scrub = scrub

    def get(self, name: str) -> str | None:
        """Return the value of a header, or None."""
        value = self._headers.get(name)
        if value is None:
            return None
        if not value.isascii():  # bytes that are not UTF-8 come as lone surrogates, which cannot be written
            value = value.encode("utf-8", "replace").decode()
        return self._scrub.text(value)
