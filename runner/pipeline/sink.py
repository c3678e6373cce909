"""Finished requests become durable lines, and only then count as done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal

import msgspec

from runner.errors import StorageError
from runner.measure.meter import Meter
from runner.pipeline.submission import Submission
from runner.records import Failure, Job, Reply, Result, ResultStatus, Timing, Usage
from runner.store import Journal, Results
from runner.transport.outcomes import Done

NO_USAGE: Final = Usage()
RESCUE_EVERY_S: Final = 0.25


class Sink:
    """The end of every request. `on_finished` is told after its line is with the kernel."""

    def __init__(
        self, results: Results, journal: Journal, meter: Meter, store: Literal["full", "text"], fsync_s: float
    ) -> None:
        self._results = results
        self._journal = journal
        self._meter = meter
        self._store = store
        self._fsync_s = fsync_s
        self._unwritten: list[tuple[Result, Usage]] = []
        self.on_finished: Callable[[], None] = lambda: None

    def finish(self, job: Job, done: float, outcome: Done) -> None:
        """A job ended; seen at `done`, in Unix seconds. Raises `StorageError`."""
        self._end_job(job, done, outcome.status, self._kept(outcome.reply), outcome.failure, outcome.usage)

    def lose(self, job: Job, done: float, status: ResultStatus, failure: Failure) -> None:
        """An accepted job is given up. Raises `StorageError`."""
        self._end_job(job, done, status, None, failure, NO_USAGE)

    def refuse(
        self,
        submission: Submission,
        done: float,
        status: ResultStatus,
        failure: Failure,
        reply: Reply | None,
    ) -> None:
        """A request ends without an accepted job. Raises `StorageError`."""
        self._write(
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

    async def sync_for_ever(self) -> None:
        """Group commit: everything received is on the disk at most `fsync_s` later. Raises `StorageError`."""
        while True:
            await asyncio.sleep(self._fsync_s)
            await asyncio.to_thread(self.sync)

    def sync(self) -> None:
        """Blocking. Raises `StorageError`."""
        self._journal.log.sync()
        self._results.log.sync()

    async def rescue(self, patience_s: float, hurried: asyncio.Event, say: Callable[[str], None]) -> None:
        """Write what a full disk kept back, if there is room before the time is over or somebody hurries."""
        if self._written():
            return
        say(f"waiting at most {patience_s:g} s for room to write what was received")
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not hurried.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(hurried.wait(), RESCUE_EVERY_S)
                    if self._written():
                        return
        # Their jobs count as open again.
        self._meter.open += sum(result.timing.accepted is not None for result, _ in self._unwritten)
        count = len(self._unwritten)
        say(f"{count:,} results that were received could not be written: a continued run asks again")

    def _written(self) -> bool:
        """Try once more; whether all of it is written now."""
        if not all([self._journal.log.rescue(), self._results.log.rescue()]):
            return False
        unwritten, self._unwritten = self._unwritten, []
        for result, usage in unwritten:
            self._meter.finished(result.status, result.timing, usage)
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
        self._write(
            Result(
                job.custom_id, job.row, status, reply, failure, timing, job.attempts, job.polls, job.epoch
            ),
            usage,
        )

    def _write(self, result: Result, usage: Usage) -> None:
        try:
            self._results.write(result)
        except StorageError:
            self._unwritten.append((result, usage))
            raise
        self._meter.finished(result.status, result.timing, usage)
        self.on_finished()

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
