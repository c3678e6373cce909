"""`journal.jsonl`: what was attempted and what was accepted. Written ahead; a continued run trusts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from runner.errors import Problem, RunDirError
from runner.store.files import AppendLog, read_lines


class Intent(msgspec.Struct, frozen=True, gc=False, tag="intent", tag_field="event"):
    """Written before the first POST of a row: from here on the service may know of it."""

    row: int
    custom_id: str
    key: str
    due: float
    at: float


class Acceptance(msgspec.Struct, frozen=True, gc=False, tag="accepted", tag_field="event"):
    """Written before the first poll: the service works on the row under `job`."""

    row: int
    job: str
    kind: str
    attempts: int
    at: float


class Retraction(msgspec.Struct, frozen=True, gc=False, tag="refused", tag_field="event"):
    """The service surely did not accept the row's last POST: it can be sent again without any doubt."""

    row: int
    cause: str
    at: float


class SessionStart(msgspec.Struct, frozen=True, gc=False, tag="session", tag_field="event"):
    """Written first by each session: what was open before it was not watched for a while."""

    at: float


Entry = Intent | Acceptance | Retraction | SessionStart
_encoder: Final = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(Entry).decode


class Journal:
    """Appends entries; one line each."""

    def __init__(self, path: Path) -> None:
        self.log = AppendLog(path)

    def write(self, entry: Entry) -> None:
        """Raises `StorageError`."""
        self.log.append(_encoder.encode(entry) + b"\n")


def read_journal(path: Path) -> Iterator[Entry]:
    """All whole entries in order. Raises `RunDirError` for a damaged one."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise damaged(path, number, error) from None


def session_starts(path: Path) -> list[float]:
    """When each session of the run began, in Unix seconds."""
    marked = (line for line in read_lines(path) if line.startswith(b'{"event":"session"'))
    return [entry.at for entry in map(_decode, marked) if isinstance(entry, SessionStart)]


def damaged(path: Path, number: int, error: Exception) -> RunDirError:
    """A line in the middle of a file of ours that is not what was written there."""
    return RunDirError(
        Problem(
            f"is damaged: {error}",
            f"{path}:{number}",
            "restore the file, or start afresh with --new; guessing could lose or double a paid result",
        )
    )
