"""The body of a batch, in bytes: its frame, its items, and its exact size."""

from __future__ import annotations

from typing import Final

ENDPOINT: Final = "/v1/responses"
_END: Final = b"]}"


class Body:
    """Adds up the exact size of a body as items are added; the bytes themselves go elsewhere."""

    def __init__(self, label: str) -> None:
        self.begin = f'{{"endpoint":"{ENDPOINT}","label":"{label}","requests":['.encode()
        self.end = _END
        self.size_bytes = len(self.begin) + len(self.end)
        self.count = 0

    def size_with(self, item: bytes) -> int:
        """Return the size of the whole body, in bytes, with one more item."""
        return self.size_bytes + len(item) + bool(self.count)

    def add(self, item: bytes) -> bytes:
        """Count an item in, and return the bytes by which the body grows."""
        piece = b"," + item if self.count else item
        self.size_bytes += len(piece)
        self.count += 1
        return piece


def item_of(wire_id: str, params: bytes) -> bytes:
    """Return one request of a batch as JSON; `params` is the JSON of its body."""
    return b'{"custom_id":"%b","params":%b}' % (wire_id.encode(), params)
