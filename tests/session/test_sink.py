"""What is written, when, and what follows from it: once in each turn of the event loop, in order."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from runner.records import Failure, Reply, Result, Timing, Usage
from runner.store import AppendLog, BatchIntent, Retraction
from runner.transport.outcomes import Done
from tests.session.building import DONE, job_of
from tests.session.sink_desk import Desk, Writes, at_desk, end_of_turn, intent_of


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
