"""Finished requests become durable lines, and only then count as done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

import msgspec

from runner.background.submission import Submission
from runner.errors import StorageError
from runner.measure.meter import Meter
from runner.records import Failure, Job, Reply, Result, ResultStatus, Timing, Usage
from runner.store import Acceptance, Journal, Results, Retraction
from runner.transport.outcomes import Done

NO_USAGE: Final = Usage()
RESCUE_EVERY_S: Final = 0.25


class Sink:
    """Everything that a session writes down of its requests.

    Intents are with the kernel when `intend` returns. All else is written at the end of the turn of the event
    loop in which it came up, with one call for each file; what follows from it follows then: an accepted job
    is polled (`on_accepted`), a result counts (`on_finished`, told once for all of them). A process killed
    before that was killed before the answer came, as far as anybody can tell.
    """

    def __init__(
        self, results: Results, journal: Journal, meter: Meter, store: Literal["full", "text"], fsync_s: float
    ) -> None:
        self._results = results
        self._journal = journal
        self._meter = meter
        self._store = store
        self._fsync_s = fsync_s
        self._loop = asyncio.get_running_loop()
        self._flush_is_due = False
        self._accepted: list[Job] = []
        self._ended: list[tuple[Result, Usage]] = []
        self._unwritten: list[tuple[Result, Usage]] = []
        """What a full disk kept back."""
        self.on_accepted: Callable[[Job], None] = lambda _: None
        self.on_finished: Callable[[], None] = lambda: None
        self.on_broken: Callable[[Exception], None] = lambda _: None
        """Told when something could not be written, and is kept for `rescue`; or of a defect."""

    def intend(self, submissions: Sequence[Submission]) -> None:
        """Their first POSTs may be made from now on. Raises `StorageError`."""
        self._journal.intend(submission.intent() for submission in submissions)

    def accept(self, job: Job) -> None:
        """The service works on a job."""
        self._journal.add(
            Acceptance(
                row=job.row,
                job=job.id,
                kind=job.kind,
                attempts=job.attempts,
                at=job.accepted,
                epoch=job.epoch,
            )
        )
        self._accepted.append(job)
        self._meter.milestones.accept(job.accepted)
        self._flush_soon()

    def retract(self, submission: Submission, cause: str, at: float) -> None:
        """The service surely does not know of a request: a later session may send it without doubt."""
        self._journal.add(Retraction(submission.request.row, cause, at, submission.epoch))
        self._flush_soon()

    def finish(self, job: Job, done: float, outcome: Done) -> None:
        """A job ended; seen at `done`, in Unix seconds."""
        self._end_job(job, done, outcome.status, self._kept(outcome.reply), outcome.failure, outcome.usage)

    def lose(self, job: Job, done: float, status: ResultStatus, failure: Failure) -> None:
        """An accepted job is given up."""
        self._end_job(job, done, status, None, failure, NO_USAGE)

    def refuse(
        self,
        submission: Submission,
        done: float,
        status: ResultStatus,
        failure: Failure,
        reply: Reply | None,
    ) -> None:
        """A request ends without an accepted job."""
        self.end(
            Result(
                custom_id=submission.request.custom_id,
                row=submission.request.row,
                status=status,
                response=reply,
                error=failure,
                timing=submission.timing(done),
                attempts=submission.attempts,
                polls=0,
                epoch=submission.epoch,
            ),
            NO_USAGE,
        )

    def flush(self) -> None:
        """Write what came up, and let follow what follows from it."""
        self._flush_is_due = False
        for flush in (self._flush_journal, self._flush_results):
            try:
                flush()
            except Exception as error:  # noqa: BLE001 - called by the loop: nobody else would hear of it
                self.on_broken(error)  # and a received result is worth a try, whatever became of the journal

    def _flush_journal(self) -> None:
        accepted, self._accepted = self._accepted, []
        self._journal.flush()
        for job in accepted:
            self.on_accepted(job)

    def _flush_results(self) -> None:
        ended, self._ended = self._ended, []
        try:
            self._results.flush()
        except StorageError:
            self._unwritten += ended
            raise
        if ended:
            self._count(ended)
            self.on_finished()

    async def sync_for_ever(self) -> None:
        """Group commit: everything received is on the disk at most `fsync_s` later. Raises `StorageError`."""
        while True:
            await asyncio.sleep(self._fsync_s)
            await asyncio.to_thread(self.sync)

    def sync(self) -> None:
        """Wait until what was written is on the disk; blocking. Raises `StorageError`."""
        self._journal.log.sync()
        self._results.log.sync()

    async def rescue(self, patience_s: float, hurried: asyncio.Event, say: Callable[[str], None]) -> None:
        """Write what a full disk kept back, if there is room before the time is over or somebody hurries."""
        if self._is_rescued():
            return
        say(f"waiting at most {patience_s:g} s for room to write what was received")
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not hurried.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(hurried.wait(), RESCUE_EVERY_S)
                    if self._is_rescued():
                        return
        count = len(self._unwritten)
        say(f"{count:,} results that were received could not be written: a continued run asks again")

    def _is_rescued(self) -> bool:
        """Try once more; whether all of it is written now."""
        self.flush()
        if not all([self._journal.log.rescue(), self._results.log.rescue()]):
            return False
        unwritten, self._unwritten = self._unwritten, []
        self._count(unwritten)
        return True

    def _count(self, ended: list[tuple[Result, Usage]]) -> None:
        for result, usage in ended:
            self._meter.open -= result.timing.accepted is not None
            self._meter.finished(result.status, result.timing, usage)

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
        self.end(
            Result(
                job.custom_id, job.row, status, reply, failure, timing, job.attempts, job.polls, job.epoch
            ),
            usage,
        )

    def end(self, result: Result, usage: Usage) -> None:
        """A request has ended, however it did."""
        self._results.add(result)
        self._ended.append((result, usage))
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


def text_only(body: msgspec.Raw) -> bytes:
    """A response object cut down to id, status, model, text, usage and error, in the object's own shape."""
    try:
        whole: dict[str, Any] = msgspec.json.decode(body)
    except msgspec.DecodeError:  # a number too large for a float, which was only passed through so far
        whole = json.loads(bytes(body))
    kept: dict[str, Any] = {key: whole[key] for key in ("id", "object", "status", "model") if key in whole}
    kept["output"] = [
        {"type": "message", "content": [{"type": "output_text", "text": output_text(whole.get("output"))}]}
    ]
    kept.update({key: whole[key] for key in ("usage", "error", "incomplete_details") if whole.get(key)})
    return msgspec.json.encode(kept)


def output_text(output: Any) -> str:
    """The text of a response: `output` is a list of items, or a string, or null."""
    if isinstance(output, str):
        return output
    if not isinstance(output, list):
        return ""
    return "".join(
        part["text"]
        for item in output
        if isinstance(item, dict) and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict) and part.get("type") == "output_text" and isinstance(part.get("text"), str)
    )
