"""A sink over real files, what it reported, and the files that were written to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from runner.background.submission import acceptance_of
from runner.records import Job
from runner.session.sink import Sink, WrittenResult
from runner.store import AppendLog, Intent, Journal, Results
from tests import virtual_time
from tests.session.building import job_of


def intent_of(row: int) -> Intent:
    return Intent(row=row, custom_id=f"row-{row}", key=f"key-{row}", due=1.0, at=1.0)


class Desk:
    """A sink over real files, what it reported, and the files that were written to."""

    def __init__(self, directory: Path, store: Literal["full", "text"] = "full") -> None:
        self.directory = directory
        self.followed: list[Job] = []
        self.ended: list[WrittenResult] = []
        self.turns = 0
        """Calls of `on_written`."""
        self.broken: list[Exception] = []
        self.journal, self.results = (
            Journal(directory / "journal.jsonl"),
            Results(directory / "results.jsonl"),
        )
        self.sink: Sink[Job] = Sink(
            self.journal, self.results, store, 1.0, on_written=self.written, on_broken=self.broken.append
        )

    def written(self, accepted: Sequence[Job], ended: Sequence[WrittenResult]) -> None:
        """Note what is on record; all of it must be in the files already."""
        assert {job.row for job in accepted} <= set(self.rows("journal"))
        assert {it.result.row for it in ended} <= set(self.rows("results"))
        self.turns += 1
        self.followed += accepted
        self.ended += ended

    def accept(self, row: int) -> None:
        job = job_of(row)
        self.sink.accept(acceptance_of(job), job)

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.directory / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def rows(self, name: str) -> list[int]:
        return [line["row"] for line in self.lines(name)]


class Writes:
    """The names of the files that were written to, one for each call."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        append = AppendLog.append

        def counted(log: AppendLog, lines: bytes, *, need_rescue: bool = True) -> None:
            self.names.append(log.path.name)
            append(log, lines, need_rescue=need_rescue)

        patch.setattr(AppendLog, "append", counted)


def at_desk(
    directory: Path,
    work: Callable[[Desk], Coroutine[Any, Any, None]],
    store: Literal["full", "text"] = "full",
) -> None:
    async def main() -> None:
        desk = Desk(directory, store)
        await work(desk)
        assert not any(isinstance(error, AssertionError) for error in desk.broken), desk.broken
        desk.journal.log.close()
        desk.results.log.close()

    virtual_time.run(main())


async def end_of_turn() -> None:
    await asyncio.sleep(0)
