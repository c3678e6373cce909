"""What is written, when, and what follows from it: once in each turn of the event loop, in order."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.background.submission import Submission
from runner.config.sink import Sink as Section
from runner.errors import StorageError
from runner.measure.meter import Meter
from runner.records import Failure, Job, Reply, Request, Usage
from runner.session.sink import Sink
from runner.store import Journal, Results
from runner.transport.outcomes import Done

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


def job_of(row: int) -> Job:
    return Job(row, f"row-{row}", f"job-{row}", "m", 1.0, 2.0, 3.0, 1)


def submission_of(row: int) -> Submission:
    return Submission(request=Request(row, f"row-{row}", b"{}", "m"), key=f"key-{row}", due=1.0)


DONE = Done("completed", Reply(200, None, msgspec.Raw(b'{"id":"x"}')), Usage(input=5, output=2), None)


class Desk:
    """A sink over real files, and the number of times that each was written to."""

    def __init__(self, directory: Path, results: Path | None = None) -> None:
        self.journal = Journal(directory / "journal.jsonl")
        self.results = Results(results or directory / "results.jsonl")
        self.meter = Meter(100)
        section = Section()
        self.sink = Sink(self.results, self.journal, self.meter, section.store, section.fsync_s)
        self.writes: list[str] = []
        for values in (self.journal, self.results):
            self._count(values.log)

    def _count(self, log) -> None:
        append = log.append

        def counted(lines, **how):
            self.writes.append(log.path.name)
            append(lines, **how)

        log.append = counted

    def lines(self, name: str) -> list[dict]:
        path = self.journal.log.path if name == "journal" else self.results.log.path
        return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def at_desk(tmp_path: Path):
    def run(main, **how):
        async def work():
            desk = Desk(tmp_path, **how)
            try:
                return await main(desk)
            finally:
                desk.journal.log.close()
                desk.results.log.close()

        return asyncio.run(work())

    return run


async def end_of_turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_all_of_one_turn_is_written_with_one_call_for_each_file(at_desk: Any) -> None:
    async def main(desk):
        for row in range(50):
            desk.sink.accept(job_of(row))
            desk.sink.finish(job_of(row), 9.0, DONE)
        assert desk.writes == []
        await end_of_turn()
        assert desk.writes == ["journal.jsonl", "results.jsonl"]
        assert [line["row"] for line in desk.lines("journal")] == list(range(50))
        assert [line["row"] for line in desk.lines("results")] == list(range(50))
        desk.sink.lose(job_of(50), 9.0, "expired", Failure("gone", "gone"))
        await end_of_turn()
        assert desk.writes[2:] == ["results.jsonl"]

    at_desk(main)


def test_intents_are_in_the_file_at_once_with_one_call_and_behind_what_came_before(at_desk: Any) -> None:
    async def main(desk):
        desk.sink.accept(job_of(7))
        desk.sink.intend([submission_of(row) for row in range(30)])
        assert [line["row"] for line in desk.lines("journal")] == [7, *range(30)]
        assert desk.writes == ["journal.jsonl"] * 2
        await end_of_turn()
        assert desk.writes == ["journal.jsonl"] * 2

    at_desk(main)


def test_an_accepted_job_is_followed_once_its_acceptance_is_in_the_file(at_desk: Any) -> None:
    async def main(desk):
        followed = []

        def follow(job):
            assert desk.lines("journal")[-1]["event"] == "accepted"
            followed.append(job.row)

        desk.sink.on_accepted = follow
        desk.sink.accept(job_of(1))
        desk.sink.accept(job_of(2))
        assert followed == []
        await end_of_turn()
        assert followed == [1, 2]

    at_desk(main)


def test_results_count_once_they_are_in_the_file_and_are_told_once(at_desk: Any) -> None:
    async def main(desk):
        told = []
        desk.sink.on_finished = lambda: told.append((desk.meter.done, len(desk.lines("results"))))
        for row in range(9):
            desk.sink.finish(job_of(row), 9.0, DONE)
        assert desk.meter.done == 0
        await end_of_turn()
        assert told == [(9, 9)]
        assert desk.meter.tokens["output"] == 18

    at_desk(main)


@needs_dev_full
def test_what_cannot_be_written_counts_nowhere_is_told_and_is_kept_for_room(
    at_desk: Any, tmp_path: Path
) -> None:
    async def main(desk):
        broken: list[StorageError] = []
        desk.sink.on_broken = broken.append
        desk.meter.open = 1
        desk.sink.accept(job_of(1))
        desk.sink.finish(job_of(2), 9.0, DONE)
        await end_of_turn()
        assert len(broken) == 1
        assert "No space left" in str(broken[0])
        assert desk.meter.done == 0
        assert [line["row"] for line in desk.lines("journal")] == [1]  # the other file is not harmed
        said: list[str] = []
        await desk.sink.rescue(0.01, asyncio.Event(), said.append)
        assert "1 results that were received could not be written" in said[-1]
        assert desk.meter.open == 1

    at_desk(main, results=Path("/dev/full"))


def test_a_defect_in_what_follows_is_told_and_keeps_nothing_from_being_written(at_desk: Any) -> None:
    async def main(desk):
        told: list[Exception] = []
        desk.sink.on_broken = told.append
        desk.sink.on_accepted = lambda job: 1 / 0
        desk.sink.accept(job_of(1))
        desk.sink.finish(job_of(2), 9.0, DONE)
        await end_of_turn()
        assert [type(error) for error in told] == [ZeroDivisionError]
        assert len(desk.lines("journal")) == len(desk.lines("results")) == 1
        assert desk.meter.done == 1

    at_desk(main)
