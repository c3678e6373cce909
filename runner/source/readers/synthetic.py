"""Reader for `source.type: synthetic`: rows are generated, and no file is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from runner.config.source import SyntheticSource
from runner.source.row import Row

BLOCK_ROWS: Final = 1024
DEFAULT_COUNT: Final = 100
GUIDE_PROMPT: Final = (
    "TASK {{ i }}: What is a fun fact about the number {{ i }}? "
    "Then, find the word at index {{ i }} in the following sequence of words: {{ 'word ' * 50 }}"
)
"""The workload of the vendor's guide: a numbered question and filler words."""


class NumberedRow(msgspec.Struct, frozen=True, gc=False):
    """A row with no field but its number."""

    i: int

    @property
    def where(self) -> str:
        """Place of the row in words, for messages."""
        return f"row {self.i}"

    def fields(self) -> dict[str, Any]:
        """Return no fields: templates have `i` in any case."""
        return {}


class Synthetic:
    """Generates `source.count` rows."""

    default_prompt = GUIDE_PROMPT

    def __init__(self, section: SyntheticSource) -> None:
        self.numbered_rows = section.count or DEFAULT_COUNT

    def blocks(self) -> Iterator[list[Row]]:
        """Yield all rows in order, a bounded number at a time."""
        for start in range(0, self.numbered_rows, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, self.numbered_rows)
            yield [NumberedRow(i) for i in range(start, stop)]

    def fingerprint(self) -> str:
        """Return a hex SHA-256 of the number of rows."""
        return hashlib.sha256(f"synthetic {self.numbered_rows}".encode()).hexdigest()
