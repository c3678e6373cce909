"""Writes the body of one batch to the disk, request by request."""

from __future__ import annotations

import hashlib
from array import array
from pathlib import Path
from types import TracebackType
from typing import Self

from runner.batch.body import Body, item_of
from runner.batch.names import wire_id
from runner.batch.submission import BatchSubmission, Names, ranges_of
from runner.records import Request
from runner.store.spool import Spool


class BatchWriter:
    """Owns a body that is being written, and the names of its requests; without `finish` the file is removed.

        with BatchWriter(path, run_id, number, label, max_bytes) as writer:
            while writer.add(request): …
            batch = writer.finish(due)

    The same requests in the same order make the same bytes, in a resumed run as well.
    """

    def __init__(
        self, path: Path, run_id: str, number: int, label: str, max_bytes: int, hard_bytes: int | None = None
    ) -> None:
        """Create the file. A batch of one request may have `hard_bytes`, if that is more than `max_bytes`.

        Raises `StorageError`.
        """
        self._run_id = run_id
        self._number = number
        self._label = label
        self._max_bytes = max_bytes
        self._hard_bytes = max_bytes if hard_bytes is None else hard_bytes
        self._spool = Spool(path)
        self._body = Body(label)
        self._names = Names()
        self._rows = array("I")
        self._kind = ""
        self._is_finished = False
        self._spool.write(self._body.begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_finished:
            self._spool.discard()

    @property
    def count(self) -> int:
        """Number of requests in the body."""
        return self._body.count

    def add(self, request: Request) -> bool:
        """Add a request, and return whether it fits and its row is above all others. Raises `StorageError`.

        The rows of a batch rise, so that it can be made again by reading the input once.
        """
        if self._rows and request.row <= self._rows[-1]:
            return False
        name = wire_id(request.custom_id, self._names.rows)
        item = item_of(name, request.body)
        if self._body.size_with(item) > (self._max_bytes if self._body.count else self._hard_bytes):
            return False
        self._spool.write(self._body.add(item))
        self._names.add(name, request.custom_id, request.row)
        self._rows.append(request.row)
        self._kind = self._kind or request.kind
        return True

    def finish(self, due: float) -> BatchSubmission:
        """Return the batch, which may be sent from `due` on, in Unix seconds. Raises `StorageError`."""
        self._spool.write(self._body.end)
        digest = self._spool.finish()
        self._is_finished = True
        return BatchSubmission(
            number=self._number,
            label=self._label,
            key=batch_key(self._run_id, self._label, digest),
            kind=self._kind,
            names=self._names,
            ranges=list(ranges_of(self._rows)),
            size_bytes=self._spool.size_bytes,
            body=self._spool.path,
            due=due,
        )


def batch_key(run_id: str, label: str, body_sha256: bytes) -> str:
    """Return the idempotency key of a batch: hex SHA-256, the same for every attempt in every session."""
    return hashlib.sha256(f"{run_id}\0{label}\0".encode() + body_sha256).hexdigest()
