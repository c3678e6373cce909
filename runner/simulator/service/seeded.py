"""Seeded draws: every random choice of the simulator is a function of the seed and of what it is about."""

from __future__ import annotations

import hashlib

_UNITS = 1 << 52


class Draws:
    """Independent numbers for the nth time that `kind` of thing happens to what `about` names."""

    __slots__ = ("_bytes",)

    def __init__(self, seed: int, kind: bytes, about: bytes, nth: int) -> None:
        self._bytes = hashlib.blake2b(b"%b %d %d %b" % (kind, seed, nth, about), digest_size=64).digest()

    def hex(self) -> str:
        """24 hexadecimal digits, for an id; uses none of the numbers below."""
        return self._bytes[:12].hex()

    def unit(self, nth: int) -> float:
        """The nth (0 to 5) number: uniform, above 0 and below 1, so that its logarithm exists."""
        at = 16 + 8 * nth
        return ((int.from_bytes(self._bytes[at : at + 8]) >> 12) + 0.5) / _UNITS
