"""`journal.jsonl`: what was attempted and what was accepted, written ahead. A continued run relies on it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from runner.records import ResultStatus
from runner.store.files import read_lines
from runner.store.json_log import JsonLog, decode_line


class Intent(msgspec.Struct, frozen=True, gc=False, tag="intent", tag_field="event", omit_defaults=True):
    """Entry written before the first POST of a row: from here on the service may know the row."""

    row: int
    custom_id: str
    key: str
    due: float
    at: float
    epoch: int = 0


class Acceptance(
    msgspec.Struct, frozen=True, gc=False, tag="accepted", tag_field="event", omit_defaults=True
):
    """Entry written before the first poll: the service works on the row under the id `job`."""

    row: int
    job: str
    kind: str
    attempts: int
    at: float
    epoch: int = 0


class Retraction(msgspec.Struct, frozen=True, gc=False, tag="refused", tag_field="event", omit_defaults=True):
    """Entry for a POST that the service certainly did not accept: the row can be sent again safely."""

    row: int
    cause: str
    at: float
    epoch: int = 0


class Reopened(msgspec.Struct, frozen=True, gc=False, tag="reopened", tag_field="event"):
    """Entry for a row that the user retries under `epoch`: entries and results of earlier epochs are void."""

    row: int
    epoch: int
    status: ResultStatus
    """Status of the result that it had."""
    at: float


class SessionStart(
    msgspec.Struct, frozen=True, gc=False, tag="session", tag_field="event", omit_defaults=True
):
    """First entry of a session in the journal of each of its workers: nothing was observed just before it."""

    at: float
    number: int | None = None
    """Number of the session, from 0. It orders the entries of a row that stand in several journals.

    None in journals of versions that had only one: each of these entries begins the next session.
    """


class BatchIntent(msgspec.Struct, frozen=True, gc=False, tag="batch", tag_field="event", omit_defaults=True):
    """Entry written before the first POST of a batch: from here on the service may know its rows."""

    batch: int
    """Number of the batch in the run, from 0; none is used twice."""
    label: str
    """Globally unique label, by which a batch is found whose acknowledgement was lost."""
    key: str
    rows: list[int]
    """Start and stop (exclusive) of each range of consecutive rows: [start, stop, start, stop, …]."""
    size_bytes: int
    kind: str
    due: float
    at: float

    @property
    def ranges(self) -> list[range]:
        """The rows of the batch, in rising order."""
        return [range(*ends) for ends in zip(self.rows[::2], self.rows[1::2], strict=True)]

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(map(len, self.ranges))


class BatchAcceptance(msgspec.Struct, frozen=True, gc=False, tag="batch_accepted", tag_field="event"):
    """Entry written before the first poll of a batch: the service works on it under `id`."""

    batch: int
    id: str
    attempts: int
    at: float


class BatchRetraction(msgspec.Struct, frozen=True, gc=False, tag="batch_refused", tag_field="event"):
    """Entry for a batch that the service certainly does not have: its rows may be sent in other batches."""

    batch: int
    cause: str
    at: float


BatchJournalEntry = BatchIntent | BatchAcceptance | BatchRetraction
Entry = Intent | Acceptance | Retraction | Reopened | SessionStart | BatchJournalEntry
_decode: Final = msgspec.json.Decoder[Entry](Entry).decode


class Journal(JsonLog[Entry]):
    """The journal of one worker, to be written."""

    def intend(self, intents: Iterable[Intent | BatchIntent]) -> None:
        """Write intents; only then may their POSTs be made.

        Raises `StorageError`; then the intents are dropped, because nothing was sent.
        """
        self.write(*intents, need_rescue=False)


def read_journal(path: Path) -> Iterator[Entry]:
    """Yield all whole entries in order. Raises `RunDirError` for a damaged one."""
    for number, line in enumerate(read_lines(path), start=1):
        yield decode_line(path, number, line, _decode)


def read_journals(paths: Iterable[Path]) -> Iterator[Entry]:
    """Yield the entries of all workers session by session, and within one session in the order of each file.

    Raises `RunDirError` for a damaged entry.
    """
    for _, entry in heapq.merge(*map(_by_session, paths), key=itemgetter(0)):
        yield entry


def _by_session(path: Path) -> Iterator[tuple[int, Entry]]:
    session = -1
    for entry in read_journal(path):
        if isinstance(entry, SessionStart):
            session = _number(entry, session)
        yield session, entry


def _number(start: SessionStart, previous: int) -> int:
    return previous + 1 if start.number is None else start.number


class Marks(msgspec.Struct, frozen=True):
    """What must be known before the other entries of a journal, and the results, can be understood."""

    sessions: list[float]
    """When each session of the run began, in Unix seconds."""
    next_session: int
    """Number of the next session: above all that were ever used."""
    epochs: dict[int, int]
    """Current epoch of each row that was reopened; all other rows are in epoch 0."""


_MARKS: Final = (b'{"event":"session"', b'{"event":"reopened"')


def read_marks(*paths: Path) -> Marks:
    """Collect the marks of all journals in one quick pass. Raises `RunDirError` for a damaged one."""
    sessions: dict[int, float] = {}
    epochs: dict[int, int] = {}
    for path in paths:
        session = -1
        for number, line in enumerate(read_lines(path), start=1):
            if not line.startswith(_MARKS):
                continue
            match decode_line(path, number, line, _decode):
                case SessionStart() as start:
                    session = _number(start, session)
                    sessions.setdefault(session, start.at)
                case Reopened(row=row, epoch=epoch):
                    epochs[row] = max(epoch, epochs.get(row, 0))
    return Marks(
        sessions=[at for _, at in sorted(sessions.items())],
        next_session=max(sessions, default=-1) + 1,
        epochs=epochs,
    )
