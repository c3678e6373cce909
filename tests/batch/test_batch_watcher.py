"""The watcher: when a batch is polled, which of its requests are done, and when it is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from runner.batch import statuses
from runner.batch.open_batch import OpenBatch, Sampled
from runner.batch.statuses import EndedRequest
from runner.batch.watcher import Watcher
from runner.config import RunConfig
from runner.errors import KeyRefused
from runner.policy.polling import Fixed
from runner.records import Failure, ResultStatus
from runner.transport.fake import Behaviour, Exchange, Fake, Script, gone, throttled, transient, unauthorised
from runner.transport.outcomes import BatchOutcome, Listing, Statuses
from tests import virtual_time
from tests.batch.polling import poll_due
from tests.batch.support import UNIX, config_of
from tests.batch.workbench import Workbench
from tests.listed import listed

Scene: TypeAlias = Callable[["Watch"], Coroutine[Any, Any, None]]


class Watch:
    """A watcher, and what it reports. It is its listener: it takes the names of requests that are done."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.clock = bench.clock
        self.due = 0
        self.ended: list[tuple[str, ResultStatus, float | None]] = []
        """Id, status, and the time at which the batch was last seen before, relative to the start."""
        self.lost: list[tuple[str, ResultStatus, Failure, float]] = []
        self.late: list[tuple[str, ResultStatus, Failure, float]] = []
        self.forgotten: list[tuple[str, float]] = []
        exchanges = bench.parts.exchanges(self.requests_due)
        self.watcher = Watcher(bench.parts, exchanges, self)

    @property
    def polls(self) -> list[float]:
        """Times at which batches were polled."""
        return [exchange.started_mono for exchange in self.bench.fake.of("retrieve_batch")]

    async def run(self, until_mono: float = float("inf")) -> None:
        await poll_due(self.watcher, self.clock, until_mono)

    def requests_due(self) -> None:
        self.due += 1

    def requests_ended(self, batch: OpenBatch, ended: list[EndedRequest], pending: float | None) -> None:
        for name, status in ended:
            del batch.names.rows[name]
            self.ended.append((name, status, None if pending is None else pending - UNIX))

    def batch_lost(self, batch: OpenBatch, status: ResultStatus, failure: Failure, now_mono: float) -> None:
        self.lost.append((batch.id, status, failure, now_mono))

    def batch_late(self, batch: OpenBatch, status: ResultStatus, failure: Failure) -> None:
        self.late.append((batch.id, status, failure, self.clock.now_mono()))

    def batch_forgotten(self, batch: OpenBatch) -> None:
        self.forgotten.append((batch.id, self.clock.now_mono()))


def watch(directory: Path, scene: Scene, fake: Fake | None = None, config: RunConfig | None = None) -> None:
    """Play a scene with a watcher over a workbench with 30 rows."""

    async def main() -> None:
        await scene(Watch(Workbench(directory, fake or Fake(), listed(30), config or config_of())))

    virtual_time.run(main())


def answering(*outcomes: BatchOutcome) -> Fake:
    """Return a service whose first answers to polls of batches are these."""
    return Fake(script=Script(retrieve_batch=dict(enumerate(outcomes, start=1))))


def always(outcome: BatchOutcome) -> Fake:
    """Return a service that answers every poll of a batch in this way."""
    return Fake(script=Script(retrieve_batch=lambda _: outcome))


def test_a_batch_is_polled_when_its_strategy_says_until_all_its_requests_are_done(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(3)))
        await it.run()
        assert it.polls == [2.0, 4.0, 6.0, 8.0]
        assert it.ended == [("row-0", "completed", None), ("row-1", "failed", 2.0), ("row-2", "expired", 6.0)]
        assert it.bench.meter.counts.polls == 4
        assert it.due == 1 + 3

    ends: dict[int, ResultStatus] = {1: "completed", 2: "failed", 3: "expired"}
    takes_s = {1: 1.5, 2: 3.0, 3: 7.0}
    behaviour = Behaviour(takes_s=lambda job: takes_s[job.number], ends=lambda job: ends[job.number])
    watch(tmp_path, scene, Fake(behaviour), config_of(poll={"interval_s": 2.0}))


def test_a_batch_of_an_earlier_session_is_polled_at_once(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(3), inherited=True))
        await it.run(until_mono=3.0)
        assert it.polls == [0.0, 2.0]

    watch(tmp_path, scene, Fake(Behaviour(takes_s=9.0)), config_of(poll={"interval_s": 2.0}))


def test_a_request_that_is_listed_twice_or_is_not_one_of_the_batch_is_reported_once_or_not_at_all(
    tmp_path: Path,
) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(2)))
        await it.run()
        assert it.ended == [("row-0", "completed", None), ("row-1", "failed", 1.0)]

    first = b'{"row-0":{"status":"COMPLETED"},"row-0":{"status":"COMPLETED"},"other":{"status":"FAILED"}}'
    second = b'{"row-0":{"status":"COMPLETED"},"row-1":{"status":"FAILED"}}'
    watch(tmp_path, scene, answering(Statuses(msgspec.Raw(first)), Statuses(msgspec.Raw(second))))


def test_a_batch_without_a_map_has_nothing_done_yet(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(1)))
        await it.run()
        assert it.polls == [1.0, 2.0, 3.0]
        assert it.ended == [("row-0", "completed", 2.0)]
        assert it.bench.meter.counts.poll_retries == {}

    watch(tmp_path, scene, answering(*[Statuses(msgspec.Raw(b"{}"))] * 2))


def test_a_map_that_cannot_be_read_is_requested_again(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(1)))
        await it.run()
        assert [name for name, *_ in it.ended] == ["row-0"]
        assert it.bench.meter.counts.poll_retries == {"not_object": 2}

    watch(tmp_path, scene, answering(*[Statuses(msgspec.Raw(b'{"row-0":3}'))] * 2))


def test_a_large_map_is_read_in_pieces_between_which_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses, "PIECE_BYTES", 64)

    async def scene(it: Watch) -> None:
        seen = []

        async def look_on() -> None:
            while True:
                seen.append(len(it.ended))
                await asyncio.sleep(0.0)

        it.watcher.watch(await it.bench.create(range(30)))
        await asyncio.sleep(1.0)
        looking = asyncio.create_task(look_on())
        await it.run()
        looking.cancel()
        assert seen[-1] == 30
        assert len(set(seen)) > 5

    watch(tmp_path, scene)


def test_an_answer_that_is_no_answer_to_a_poll_does_not_lose_the_batch_in_silence(
    tmp_path: Path,
) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(1)))
        with pytest.raises(AssertionError, match="a poll of a batch cannot be answered with Listing"):
            await it.run()

    odd: Any = Listing(())  # what no transport returns
    watch(tmp_path, scene, always(odd))


def test_a_throttled_poll_is_repeated_after_the_wait_that_the_service_asks_for(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(1)))
        await it.run()
        assert it.polls[0] == 1.0
        assert 21.0 <= it.polls[1] <= 22.0
        assert it.bench.meter.counts.poll_retries == {"429": 1}
        assert it.bench.said == ["waiting 20 s, as the service asks: Too many requests."]

    watch(tmp_path, scene, answering(throttled(wait_s=20.0)))


def test_a_batch_is_polled_for_as_long_as_polls_of_it_fail(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(1)))
        await it.run()
        assert it.ended == [("row-0", "completed", None)]
        assert it.bench.meter.counts.poll_retries == {"500": 20}
        assert (it.lost, it.late, it.forgotten) == ([], [], [])

    config = config_of(submit={"retry": {"cap_s": 1.0}}, limits={"max_outage_s": 600.0})
    watch(tmp_path, scene, answering(*[transient("500")] * 20), config)


def test_a_refused_key_ends_the_run_and_the_batch_stays_outstanding(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(1)))
        with pytest.raises(KeyRefused):
            await it.run()
        assert (it.ended, it.lost, it.late) == ([], [], [])

    watch(tmp_path, scene, always(unauthorised()))


OUTAGE = {"limits": {"max_outage_s": 60.0}}


def test_an_unknown_batch_is_given_up_only_after_the_longest_outage(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(3)))
        await it.run()
        ((batch_id, status, failure, at_mono),) = it.lost
        assert (batch_id, status, failure) == ("batch-1", "expired", gone().failure)
        assert at_mono - it.polls[0] >= 60.0
        assert len(it.polls) >= 5
        assert it.polls[-2] - it.polls[0] < 60.0

    watch(tmp_path, scene, always(gone()), config_of(**OUTAGE))


def test_a_batch_that_a_replica_did_not_know_is_not_given_up(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(1)))
        await it.run()
        assert it.ended == [("row-0", "completed", None)]
        assert not it.lost

    def answer(exchange: Exchange) -> BatchOutcome | None:
        return gone() if exchange.started_mono < 55.0 else None

    watch(tmp_path, scene, Fake(script=Script(retrieve_batch=answer)), config_of(**OUTAGE))


@pytest.mark.parametrize("on_uncertain", ["hold", "resend"])
def test_a_batch_of_an_earlier_session_that_the_service_forgot_is_uncertain_or_resent(
    tmp_path: Path, on_uncertain: str
) -> None:
    async def scene(it: Watch) -> None:
        it.watcher.watch(await it.bench.create(range(3), inherited=True))
        await it.run()
        if on_uncertain == "resend":
            ((batch_id, at_mono),) = it.forgotten
            assert not it.lost
        else:
            ((batch_id, status, failure, at_mono),) = it.lost
            assert status == "uncertain"
            assert "accepted in an earlier session" in failure.message
            assert not it.forgotten
        assert batch_id == "batch-1"
        assert at_mono >= 60.0

    watch(tmp_path, scene, always(gone()), config_of(submit={"on_uncertain": on_uncertain}, **OUTAGE))


def test_a_batch_past_its_deadline_is_late_once(tmp_path: Path) -> None:
    async def scene(it: Watch) -> None:
        batch = await it.bench.create(range(3))
        it.watcher.watch(batch)
        await it.run(until_mono=100.0)
        ((batch_id, status, failure, at_mono),) = it.late
        assert (batch_id, status, failure.type, at_mono) == ("batch-1", "expired", "deadline", 30.0)
        assert "poll.deadline_s" in failure.message
        assert it.polls[-1] == 30.0
        assert [name for name, *_ in it.ended] == ["row-0"]

    behaviour = Behaviour(takes_s=lambda job: 5.0 if job.number == 1 else 3600.0)
    watch(tmp_path, scene, Fake(behaviour), config_of(poll={"deadline_s": 30.0}))


class Recorder(Fixed):
    """A strategy of equal intervals that keeps what it is informed of."""

    def __init__(self) -> None:
        super().__init__(2.0)
        self.pending: list[tuple[str, float]] = []
        self.done: list[tuple[str, float]] = []

    def saw_pending(self, job: Any, seen: float) -> None:
        assert isinstance(job, Sampled)
        self.pending.append((job.wire_id, seen - UNIX))

    def saw_done(self, job: Any, by: float) -> None:
        assert isinstance(job, Sampled)
        self.done.append((job.wire_id, by - UNIX))


@pytest.mark.parametrize("inherited", [False, True])
def test_the_strategy_learns_from_the_requests_of_a_batch_that_was_watched(
    tmp_path: Path, inherited: bool
) -> None:
    """What the first poll of an earlier session's batch finds done ended at an unknown time."""

    async def scene(it: Watch) -> None:
        recorder = Recorder()
        it.watcher._policy = recorder
        batch = await it.bench.create(range(2))
        batch.inherited = inherited
        await asyncio.sleep(1.5)
        it.watcher.watch(batch)
        await it.run()
        if inherited:
            assert it.polls == [1.5, 3.5]
            assert recorder.pending == [("row-1", 1.5)]
            assert recorder.done == [("row-1", 3.5)]
        else:
            assert it.polls == [2.0, 4.0]
            assert recorder.pending == [("row-1", 2.0)]
            assert recorder.done == [("row-0", 2.0), ("row-1", 4.0)]

    watch(tmp_path, scene, Fake(Behaviour(takes_s=lambda job: {1: 1.0, 2: 3.0}[job.number])))
