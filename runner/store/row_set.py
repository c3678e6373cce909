"""A set of rows, small enough to hold one for all rows of a run."""

from __future__ import annotations


class RowSet:
    """A set of row numbers as a bitmap: one bit a row, so a million rows take 125 kB."""

    def __init__(self, total: int) -> None:
        """Make an empty set for rows below `total`."""
        self._bits = bytearray((total + 7) // 8)
        self.count = 0
        """The number of rows in the set."""

    @property
    def capacity(self) -> int:
        """The first row number that does not fit."""
        return 8 * len(self._bits)

    def add(self, row: int) -> None:
        """Add `row`; nothing changes if it is in the set already, or does not fit."""
        byte, bit = row >> 3, 1 << (row & 7)
        if byte < len(self._bits) and not self._bits[byte] & bit:
            self._bits[byte] |= bit
            self.count += 1

    def discard(self, row: int) -> None:
        """Remove `row`; nothing changes if it is not in the set."""
        if row in self:
            self._bits[row >> 3] &= ~(1 << (row & 7))
            self.count -= 1

    def count_below(self, row: int) -> int:
        """Return how many rows below `row` are in the set."""
        whole, rest = divmod(row, 8)
        count = int.from_bytes(self._bits[:whole], "little").bit_count()
        return count + (self._bits[whole] & ((1 << rest) - 1)).bit_count() if rest else count

    def copy(self) -> RowSet:
        """Return another set with the same rows."""
        copied = RowSet(0)
        copied._bits, copied.count = self._bits[:], self.count
        return copied

    def __contains__(self, row: int) -> bool:
        return row >> 3 < len(self._bits) and bool(self._bits[row >> 3] & (1 << (row & 7)))
