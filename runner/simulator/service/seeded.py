"""Seeded draws: every random choice is a function of the seed and of the thing it is drawn for."""

from __future__ import annotations

import hashlib

_UNITS = 1 << 52


class Draws:
    """Independent numbers for one event: the nth time that this `kind` of thing happens to `about`."""

    __slots__ = ("_bytes",)

    def __init__(self, seed: int, kind: bytes, about: bytes, nth: int) -> None:
        self._bytes = hashlib.blake2b(b"%b %d %d %b" % (kind, seed, nth, about), digest_size=64).digest()

    def hex(self) -> str:
        """Return 24 hexadecimal digits for an id, independent of the numbers of `unit`."""
        return self._bytes[:12].hex()

    def unit(self, nth: int) -> float:
        """Return the nth (0 to 5) uniform number in (0, 1); it is never 0, so it has a logarithm."""
        at = 16 + 8 * nth
        return ((int.from_bytes(self._bytes[at : at + 8]) >> 12) + 0.5) / _UNITS
