"""Finished requests become durable lines, and only then count as done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Generic, Literal, TypeVar

import msgspec

from runner.errors import StorageError
from runner.records import Failure, Job, Reply, Result, ResultStatus, Timing, Usage
from runner.store import (
    Acceptance,
    BatchAcceptance,
    BatchIntent,
    BatchRetraction,
    Intent,
    Journal,
    Results,
    Retraction,
)
from runner.store.reply_text import text_only
from runner.transport.outcomes import Done

NO_USAGE: Final = Usage()
RESCUE_EVERY_S: Final = 0.25

AcceptedT = TypeVar("AcceptedT")


class WrittenResult(msgspec.Struct, frozen=True, gc=False):
    """A result on record, and where its row stood before."""

    result: Result
    usage: Usage
    was_outstanding: bool
    """Whether the row was accepted; else it only occupied a slot."""
    was_announced: bool
    """Whether an intent of the row, without an acceptance, is in the journal."""


class Sink(Generic[AcceptedT]):
    """Writes everything that a session puts on record about its requests.

    Intents are with the kernel when `intend` returns. All else is written at the end of the turn of the event
    loop in which it came up, with one call for each file. Its consequences follow then, in `on_written`:
    accepted jobs are polled, results count. A process killed before that was, as far as anybody can tell,
    killed before the answer came.
    """

    def __init__(
        self,
        journal: Journal,
        results: Results,
        store: Literal["full", "text"],
        fsync_s: float,
        *,
        on_written: Callable[[Sequence[AcceptedT], Sequence[WrittenResult]], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        """`on_written` is called at most once per turn, with the acceptances and results now on record.

        `on_broken` is called when something could not be written, and is kept for `rescue`; or with a defect
        of this program.
        """
        self._journal = journal
        self._results = results
        self._store = store
        self._fsync_s = fsync_s
        self._on_written = on_written
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._flush_is_due = False
        self._accepted: list[AcceptedT] = []
        self._ended: list[WrittenResult] = []
        self._unwritten: list[WrittenResult] = []
        """Results that a full disk kept back."""

    @property
    def is_settled(self) -> bool:
        """Whether everything that came up is written, and its consequences have followed."""
        return not self._flush_is_due

    def intend(self, intents: Sequence[Intent]) -> None:
        """Announce requests: their first POSTs may be made from now on. Raises `StorageError`."""
        self._announce(intents)

    async def intend_batch(self, intent: BatchIntent) -> None:
        """Announce a batch and wait until that is on the disk: its POST may be made then.

        A batch costs as much as many requests, so not even a power cut may free its number or its rows for
        reuse. Raises `StorageError`.
        """
        self._announce((intent,))
        await asyncio.to_thread(self._journal.log.sync)

    def accept(self, entry: Acceptance | BatchAcceptance, accepted: AcceptedT) -> None:
        """Put on record that the service works on something; `on_written` gets `accepted`."""
        self._journal.add(entry)
        self._accepted.append(accepted)
        self._flush_soon()

    def retract(self, entry: Retraction | BatchRetraction) -> None:
        """Put on record that the service surely does not know of an announced request or batch."""
        self._journal.add(entry)
        self._flush_soon()

    def finish(self, job: Job, done: float, outcome: Done) -> None:
        """Put on record how a job ended, which was seen at `done`, in Unix seconds."""
        self._end_job(job, done, outcome.status, self._kept(outcome.reply), outcome.failure, outcome.usage)

    def lose(self, job: Job, done: float, status: ResultStatus, failure: Failure) -> None:
        """Put on record that an accepted job is given up."""
        self._end_job(job, done, status, None, failure, NO_USAGE)

    def refuse(self, result: Result, *, was_announced: bool) -> None:
        """Put on record how a request ended that was never accepted."""
        self._end(WrittenResult(result, NO_USAGE, was_outstanding=False, was_announced=was_announced))

    def flush(self) -> None:
        """Write what came up in this turn, then act on it."""
        self._flush_is_due = False
        accepted, ended = self._flush_journal(), self._flush_results()
        if accepted or ended:
            self._report(accepted, ended)

    async def sync_forever(self) -> None:
        """Commit in groups: everything received is on the disk at most `fsync_s` later.

        Raises `StorageError`.
        """
        while True:
            await asyncio.sleep(self._fsync_s)
            await asyncio.to_thread(self.sync)

    def sync(self) -> None:
        """Wait until what was written is on the disk; blocks. Raises `StorageError`."""
        self._journal.log.sync()
        self._results.log.sync()

    async def rescue(self, patience_s: float, forced: asyncio.Event, say: Callable[[str], None]) -> None:
        """Write what a full disk kept back, if there is room within `patience_s` and before `forced`."""
        if self._is_rescued():
            return
        say(f"waiting at most {patience_s:g} s for room to write what was received")
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not forced.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(forced.wait(), RESCUE_EVERY_S)
                    if self._is_rescued():
                        return
        count = len(self._unwritten)
        say(f"{count:,} results that were received could not be written: a resumed run asks for them again")

    def close(self) -> None:
        """Close the files, after a last `sync`; blocks. Raises `StorageError`."""
        try:
            self.sync()
        finally:
            self._journal.log.close()
            self._results.log.close()

    def _announce(self, intents: Sequence[Intent | BatchIntent]) -> None:
        try:
            self._journal.intend(intents)
        except StorageError:
            self._accepted.clear()  # acceptances of this turn were to be written before, and perhaps are not
            raise

    def _flush_journal(self) -> list[AcceptedT]:
        """Return the acceptances that are on record now."""
        accepted, self._accepted = self._accepted, []
        try:
            self._journal.flush()
        except StorageError as error:
            self._on_broken(error)  # and a received result is worth a try all the same
            return []
        return accepted

    def _flush_results(self) -> list[WrittenResult]:
        """Return the results that are on record now."""
        ended, self._ended = self._ended, []
        try:
            self._results.flush()
        except StorageError as error:
            self._unwritten += ended
            self._on_broken(error)
            return []
        return ended

    def _report(self, accepted: list[AcceptedT], ended: list[WrittenResult]) -> None:
        try:
            self._on_written(accepted, ended)
        except Exception as error:  # noqa: BLE001 - called by the loop: nobody else would hear of it
            self._on_broken(error)

    def _is_rescued(self) -> bool:
        """Try once more, and return whether all of it is written now."""
        self.flush()
        if not all([self._journal.log.rescue(), self._results.log.rescue()]):
            return False
        unwritten, self._unwritten = self._unwritten, []
        if unwritten:
            self._report([], unwritten)
        return True

    def _end_job(
        self,
        job: Job,
        done: float,
        status: ResultStatus,
        reply: Reply | None,
        failure: Failure | None,
        usage: Usage,
    ) -> None:
        timing = Timing(job.due, job.sent, job.accepted, job.pending, done)
        result = Result(
            job.custom_id, job.row, status, reply, failure, timing, job.attempts, job.polls, job.epoch
        )
        self._end(WrittenResult(result, usage, was_outstanding=True, was_announced=False))

    def _end(self, ended: WrittenResult) -> None:
        self._results.add(ended.result)
        self._ended.append(ended)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def _kept(self, reply: Reply) -> Reply:
        if self._store == "full":
            return reply
        try:
            text = text_only(reply.body)
        except (ValueError, RecursionError):  # JSON that can be passed through and not be understood
            return reply
        return msgspec.structs.replace(reply, body=msgspec.Raw(text))
