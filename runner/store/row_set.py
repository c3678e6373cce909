"""Which rows of a run: a bit each."""

from __future__ import annotations


class RowSet:
    """A set of row numbers as a bitmap: one bit a row, so a million rows take 125 kB."""

    def __init__(self, total: int) -> None:
        self._bits = bytearray((total + 7) // 8)
        self.count = 0

    @property
    def capacity(self) -> int:
        """RowSet from this one on cannot be in."""
        return 8 * len(self._bits)

    def add(self, row: int) -> None:
        """Put `row` in; nothing changes where it is in already, or out of range."""
        byte, bit = row >> 3, 1 << (row & 7)
        if byte < len(self._bits) and not self._bits[byte] & bit:
            self._bits[byte] |= bit
            self.count += 1

    def discard(self, row: int) -> None:
        """Take `row` out; nothing changes where it is not in."""
        if row in self:
            self._bits[row >> 3] &= ~(1 << (row & 7))
            self.count -= 1

    def count_below(self, row: int) -> int:
        """How many of the rows before `row` are in."""
        whole, rest = divmod(row, 8)
        count = int.from_bytes(self._bits[:whole], "little").bit_count()
        return count + (self._bits[whole] & ((1 << rest) - 1)).bit_count() if rest else count

    def copy(self) -> RowSet:
        """Another set with the same rows."""
        copied = RowSet(0)
        copied._bits, copied.count = self._bits[:], self.count
        return copied

    def __contains__(self, row: int) -> bool:
        return row >> 3 < len(self._bits) and bool(self._bits[row >> 3] & (1 << (row & 7)))
