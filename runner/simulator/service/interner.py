"""Shared strings: a million jobs of one run repeat a handful of models, parameters and metadata."""

from __future__ import annotations

from typing import Final

_AT_MOST: Final = 4096


class Interner:
    """A bounded table of strings; when all strings differ, it starts over instead of growing."""

    __slots__ = ("_strings",)

    def __init__(self) -> None:
        self._strings: dict[str, str] = {}

    def intern(self, text: str) -> str:
        """Return an equal string that earlier callers share, or `text` itself if it is new."""
        if len(self._strings) >= _AT_MOST:
            self._strings.clear()
        return self._strings.setdefault(text, text)
