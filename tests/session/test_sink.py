"""What is written, when, and what follows from it: once in each turn of the event loop, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from runner.background.submission import acceptance_of
from runner.errors import StorageError
from runner.records import Failure, Job, Reply, Result, Timing, Usage
from runner.session.sink import RESCUE_EVERY_S, Sink, WrittenResult
from runner.store import AppendLog, BatchIntent, Intent, Journal, Results, Retraction
from runner.transport.outcomes import Done
from tests import virtual_time
from tests.session.building import DONE, job_of
from tests.session.support import Disk


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


def test_all_of_one_turn_is_written_with_one_call_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = Writes(monkeypatch)

    async def work(desk: Desk) -> None:
        for row in range(50):
            desk.accept(row)
            desk.sink.finish(job_of(row), 9.0, DONE)
        assert (writes.names, desk.sink.is_settled) == ([], False)
        await end_of_turn()
        assert (writes.names, desk.sink.is_settled) == (["journal.jsonl", "results.jsonl"], True)
        assert desk.rows("journal") == desk.rows("results") == list(range(50))
        assert desk.turns == 1
        desk.sink.lose(job_of(50), 9.0, "expired", Failure("gone", "gone"))
        await end_of_turn()
        assert writes.names[2:] == ["results.jsonl"]
        assert desk.turns == 2

    at_desk(tmp_path, work)


def test_intents_are_in_the_file_at_once_with_one_call_and_behind_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = Writes(monkeypatch)

    async def work(desk: Desk) -> None:
        desk.accept(7)
        desk.sink.intend([intent_of(row) for row in range(30)])
        assert desk.rows("journal") == [7, *range(30)]
        assert writes.names == ["journal.jsonl"] * 2
        await end_of_turn()
        assert writes.names == ["journal.jsonl"] * 2
        assert [job.row for job in desk.followed] == [7]

    at_desk(tmp_path, work)


def test_the_intent_of_a_batch_is_on_the_disk_before_it_may_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(AppendLog, "sync", lambda log: synced.append(log.path.name))
    intent = BatchIntent(
        batch=0, label="t-0", key="key", rows=[0, 9], size_bytes=100, kind="m", due=1.0, at=1.0
    )

    async def work(desk: Desk) -> None:
        await desk.sink.intend_batch(intent)
        assert synced == ["journal.jsonl"]
        assert [line["event"] for line in desk.lines("journal")] == ["batch"]

    at_desk(tmp_path, work)


def test_what_follows_from_a_write_follows_after_it(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:  # `Desk.written` looks into the files
        desk.accept(1)
        desk.accept(2)
        desk.sink.finish(job_of(3), 9.0, DONE)
        assert (desk.followed, desk.ended) == ([], [])
        await end_of_turn()
        assert [job.row for job in desk.followed] == [1, 2]
        assert [it.result.row for it in desk.ended] == [3]

    at_desk(tmp_path, work)


def test_a_result_says_where_its_row_stood_and_what_it_cost(tmp_path: Path) -> None:
    failure = Failure("gone", "gone")
    timing = Timing(due=1.0, sent=2.0, accepted=None, pending=None, done=9.0)
    never_accepted = Result("row-2", 2, "rejected", None, failure, timing, 1, 0)

    async def work(desk: Desk) -> None:
        desk.sink.finish(job_of(0), 9.0, DONE)
        desk.sink.lose(job_of(1), 9.0, "expired", failure)
        desk.sink.refuse(never_accepted, was_announced=True)
        await end_of_turn()
        assert [(it.result.status, it.was_outstanding, it.was_announced) for it in desk.ended] == [
            ("completed", True, False),
            ("expired", True, False),
            ("rejected", False, True),
        ]
        assert [it.usage for it in desk.ended] == [Usage(input=5, output=2), Usage(), Usage()]
        assert desk.ended[1].result.error is failure

    at_desk(tmp_path, work)


def test_a_retraction_is_written_at_the_end_of_the_turn_and_nothing_follows(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.sink.retract(Retraction(5, "429", 1.0))
        await end_of_turn()
        assert [(line["event"], line["cause"]) for line in desk.lines("journal")] == [("refused", "429")]
        assert desk.turns == 0

    at_desk(tmp_path, work)


LONG = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "m",
    "instructions": "do as I say",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "four"}]}],
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


@pytest.mark.parametrize(
    ("store", "body", "kept"),
    [
        ("full", json.dumps(LONG), LONG),
        ("text", json.dumps(LONG), {key: value for key, value in LONG.items() if key != "instructions"}),
        ("text", '{"id":"x","output":' + "[" * 60_000 + "]" * 60_000 + "}", None),
    ],
    ids=["full", "text", "text of what is too deep to read"],
)
def test_a_body_is_stored_whole_or_reduced_to_its_text(
    tmp_path: Path, store: Literal["full", "text"], body: str, kept: dict[str, Any] | None
) -> None:
    outcome = Done("completed", Reply(200, None, msgspec.Raw(body.encode())), Usage(), None)

    async def work(desk: Desk) -> None:
        desk.sink.finish(job_of(0), 9.0, outcome)
        await end_of_turn()
        line = (tmp_path / "results.jsonl").read_text()
        if kept is None:
            assert body in line
        else:
            assert json.loads(line)["response"]["body"] == kept

    at_desk(tmp_path, work, store)


def test_files_are_synced_together_every_so_many_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[float, str]] = []

    async def work(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(AppendLog, "sync", lambda log: synced.append((loop.time(), log.path.name)))
        syncing = asyncio.create_task(desk.sink.sync_forever())
        await asyncio.sleep(2.5)
        syncing.cancel()
        assert synced == [(at, name) for at in (1.0, 2.0) for name in ("journal.jsonl", "results.jsonl")]

    at_desk(tmp_path, work)


def test_an_intent_that_cannot_be_written_is_an_error_and_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)

    async def work(desk: Desk) -> None:
        disk.full = {"journal.jsonl"}
        with pytest.raises(StorageError, match="No space left"):
            desk.sink.intend([intent_of(1)])
        disk.full = set()
        assert desk.journal.log.rescue()
        assert desk.rows("journal") == []

    at_desk(tmp_path, work)


def test_an_acceptance_that_was_to_be_written_before_such_an_intent_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)

    async def work(desk: Desk) -> None:
        disk.full = {"journal.jsonl"}
        desk.accept(1)
        with pytest.raises(StorageError, match="No space left"):
            desk.sink.intend([intent_of(2)])
        await end_of_turn()
        assert desk.followed == []
        disk.full = set()
        await desk.sink.rescue(1.0, asyncio.Event(), lambda _: None)
        assert desk.rows("journal") == [1]

    at_desk(tmp_path, work)


def test_an_acceptance_that_cannot_be_written_is_not_followed_and_results_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)

    async def work(desk: Desk) -> None:
        disk.full = {"journal.jsonl"}
        desk.accept(1)
        desk.sink.finish(job_of(2), 9.0, DONE)
        await end_of_turn()
        assert [type(error) for error in desk.broken] == [StorageError]
        assert desk.followed == []
        assert [it.result.row for it in desk.ended] == [2]
        assert desk.rows("results") == [2]

    at_desk(tmp_path, work)


def test_a_result_that_cannot_be_written_does_not_count_and_is_kept_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    disk.full = {"results.jsonl"}

    async def work(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        desk.accept(1)
        desk.sink.finish(job_of(2), 9.0, DONE)
        desk.sink.finish(job_of(3), 9.0, DONE)
        await end_of_turn()
        assert [type(error) for error in desk.broken] == [StorageError]
        assert desk.ended == []
        assert desk.rows("journal") == [1]
        loop.call_later(10.1, disk.full.clear)
        said: list[str] = []
        await desk.sink.rescue(30.0, asyncio.Event(), said.append)
        assert loop.time() == pytest.approx(10.25)
        assert said == ["waiting at most 30 s for room to write what was received"]
        assert desk.rows("results") == [2, 3]
        assert [it.result.row for it in desk.ended] == [2, 3]
        await desk.sink.rescue(30.0, asyncio.Event(), said.append)
        assert (len(said), len(desk.ended)) == (1, 2), "once is enough"

    at_desk(tmp_path, work)


def test_the_wait_for_room_ends_after_its_time_and_the_loss_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disk(monkeypatch).full = {"results.jsonl"}

    async def work(desk: Desk) -> None:
        for row in range(1200):
            desk.sink.finish(job_of(row), 9.0, DONE)
        said: list[str] = []
        await desk.sink.rescue(7.0, asyncio.Event(), said.append)
        assert asyncio.get_running_loop().time() == 7.0
        assert said[-1] == (
            "1,200 results that were received could not be written: a resumed run asks for them again"
        )

    at_desk(tmp_path, work)


def test_the_wait_for_room_ends_when_the_user_wants_the_end_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disk(monkeypatch).full = {"results.jsonl"}

    async def work(desk: Desk) -> None:
        loop, forced = asyncio.get_running_loop(), asyncio.Event()
        desk.sink.finish(job_of(1), 9.0, DONE)
        loop.call_later(3.0, forced.set)
        await desk.sink.rescue(1000.0, forced, lambda _: None)
        assert loop.time() == pytest.approx(3.0, abs=RESCUE_EVERY_S)

    at_desk(tmp_path, work)


def test_without_anything_kept_back_nothing_is_waited_for(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.sink.finish(job_of(1), 9.0, DONE)
        said: list[str] = []
        await desk.sink.rescue(30.0, asyncio.Event(), said.append)  # writes the last turn, too
        assert (said, desk.rows("results"), len(desk.ended)) == ([], [1], 1)

    at_desk(tmp_path, work)


def test_a_defect_in_what_follows_is_reported_and_keeps_nothing_from_being_written(tmp_path: Path) -> None:
    class Defective(Desk):
        def written(self, accepted: Sequence[Job], ended: Sequence[WrittenResult]) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        desk = Defective(tmp_path)
        desk.accept(1)
        desk.sink.finish(job_of(2), 9.0, DONE)
        await end_of_turn()
        assert [type(error) for error in desk.broken] == [ZeroDivisionError]
        assert (desk.rows("journal"), desk.rows("results")) == ([1], [2])
        desk.sink.close()

    virtual_time.run(main())


def test_closing_syncs_first_and_closes_even_where_that_fails(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path)
        desk.accept(1)
        desk.sink.flush()
        (tmp_path / "journal.jsonl").rename(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="was removed, moved or replaced"):
            desk.sink.close()
        for log in (desk.journal.log, desk.results.log):
            with pytest.raises(OSError, match="Bad file descriptor"):
                log.close()

    virtual_time.run(main())
