"""`journal.jsonl`: what was attempted and what was accepted. Written ahead; a continued run trusts it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from runner.errors import Problem, RunDirError
from runner.records import ResultStatus
from runner.store.files import read_lines
from runner.store.json_log import JsonLog


class Intent(msgspec.Struct, frozen=True, gc=False, tag="intent", tag_field="event", omit_defaults=True):
    """Written before the first POST of a row: from here on the service may know of it."""

    row: int
    custom_id: str
    key: str
    due: float
    at: float
    epoch: int = 0


class Acceptance(
    msgspec.Struct, frozen=True, gc=False, tag="accepted", tag_field="event", omit_defaults=True
):
    """Written before the first poll: the service works on the row under `job`."""

    row: int
    job: str
    kind: str
    attempts: int
    at: float
    epoch: int = 0


class Retraction(msgspec.Struct, frozen=True, gc=False, tag="refused", tag_field="event", omit_defaults=True):
    """The service surely did not accept the row's last POST: it can be sent again without any doubt."""

    row: int
    cause: str
    at: float
    epoch: int = 0


class Reopened(msgspec.Struct, frozen=True, gc=False, tag="reopened", tag_field="event"):
    """The user wants the row tried anew, under `epoch`: what earlier epochs say of it counts no more."""

    row: int
    epoch: int
    status: ResultStatus
    """How it had ended."""
    at: float


class SessionStart(
    msgspec.Struct, frozen=True, gc=False, tag="session", tag_field="event", omit_defaults=True
):
    """Written first by each session, in the journals of all of its workers: nobody watched before it."""

    at: float
    number: int | None = None
    """Of the session, from 0: tells which entry of a row is newer where they stand in two journals.

    None in journals of a time when a run had only one: there each mark begins the next session.
    """


class BatchIntent(msgspec.Struct, frozen=True, gc=False, tag="batch", tag_field="event", omit_defaults=True):
    """Written before the first POST of a batch: from here on the service may know of its rows."""

    batch: int
    """Its number in the run, from 0; none is used twice."""
    label: str
    """Its own in all the world: an acknowledgement that was lost is looked for by it."""
    key: str
    rows: list[int]
    """Where each run of consecutive rows begins and ends (one past the last), one after the other."""
    size_bytes: int
    kind: str
    due: float
    at: float

    @property
    def ranges(self) -> list[range]:
        """Its rows, in rising order."""
        return [range(*ends) for ends in zip(self.rows[::2], self.rows[1::2], strict=True)]

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(map(len, self.ranges))


class BatchAcceptance(msgspec.Struct, frozen=True, gc=False, tag="batch_accepted", tag_field="event"):
    """Written before the first look: the service works on the batch under `id`."""

    batch: int
    id: str
    attempts: int
    at: float


class BatchRetraction(msgspec.Struct, frozen=True, gc=False, tag="batch_refused", tag_field="event"):
    """The service surely does not work on the batch: its rows may be sent in others."""

    batch: int
    cause: str
    at: float


BatchJournalEntry = BatchIntent | BatchAcceptance | BatchRetraction
Entry = Intent | Acceptance | Retraction | Reopened | SessionStart | BatchJournalEntry
_decode = msgspec.json.Decoder(Entry).decode


class Journal(JsonLog[Entry]):
    """Entries, one line each."""

    def intend(self, intents: Iterable[Intent | BatchIntent]) -> None:
        """Write before the POSTs are made. Raises `StorageError`: what could not be written is void then."""
        self.write(*intents, is_owed=False)


def read_journal(path: Path) -> Iterator[Entry]:
    """All whole entries in order. Raises `RunDirError` for a damaged one."""
    for number, line in enumerate(read_lines(path), start=1):
        yield _entry(path, number, line)


def read_journals(paths: Iterable[Path]) -> Iterator[Entry]:
    """As `read_journal`, for the journals of all workers: session after session, each file in order."""
    for _, entry in heapq.merge(*map(_by_session, paths), key=itemgetter(0)):
        yield entry


def _by_session(path: Path) -> Iterator[tuple[int, Entry]]:
    session = -1
    for entry in read_journal(path):
        if isinstance(entry, SessionStart):
            session = session + 1 if entry.number is None else entry.number
        yield session, entry


class Marks(msgspec.Struct, frozen=True):
    """What must be known before the rest of the journal, and before the results, can be understood."""

    sessions: list[float]
    """When each session of the run began, in Unix seconds."""
    next_session: int
    """The number of the session that comes next: above all that were ever given out."""
    epochs: dict[int, int]
    """The current epoch of each row that was reopened; all others are in epoch 0."""


_MARKS: Final = (b'{"event":"session"', b'{"event":"reopened"')


def read_marks(*paths: Path) -> Marks:
    """A quick pass over the journals. Raises `RunDirError` for a damaged mark."""
    sessions: dict[int, float] = {}
    epochs: dict[int, int] = {}
    for path in paths:
        last = -1
        for number, line in enumerate(read_lines(path), start=1):
            if line.startswith(_MARKS):
                match _entry(path, number, line):
                    case SessionStart(at=at, number=session):
                        last = last + 1 if session is None else session
                        sessions.setdefault(last, at)
                    case Reopened(row=row, epoch=epoch):
                        epochs[row] = max(epoch, epochs.get(row, 0))
    return Marks(
        sessions=[at for _, at in sorted(sessions.items())],
        next_session=max(sessions, default=-1) + 1,
        epochs=epochs,
    )


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        entry: Entry = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(path, number, error) from None
    return entry


def damaged(path: Path, number: int, error: Exception) -> RunDirError:
    """A line in the middle of a file of ours that is not what was written there."""
    return RunDirError(
        Problem(
            f"is damaged: {error}",
            f"{path}:{number}",
            "restore the file, or start afresh with --new; guessing could lose or double a paid result",
        )
    )
