"""Batch mode: planner, uploader and collector, and what earlier sessions left to them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from runner.batch.collector import Collector
from runner.batch.failed_rows import FailedRows
from runner.batch.names import wire_id
from runner.batch.open_batch import OpenBatch
from runner.batch.planner import Planner
from runner.batch.rereading import rows_in
from runner.batch.submission import BatchSubmission, Names
from runner.batch.submissions import BatchSubmissions
from runner.batch.uploader import Uploader
from runner.session.feed import Feed
from runner.session.parts import Parts
from runner.source import Source
from runner.store import BatchAcceptance, Recovery, UnfinishedBatch


class BatchMode:
    """Sends many rows in one POST, and fetches each result once it is done. Implements `session.Mode`."""

    def __init__(self, parts: Parts[OpenBatch], feed: Feed, source: Source, recovery: Recovery) -> None:
        self._parts = parts
        self._section = parts.config.batch
        self._source = source
        self._unfinished = list(recovery.batches.values())
        """Batches of earlier sessions; empty once all of them are taken over."""
        failed_rows = FailedRows(parts, recovery.epochs)
        self._planner = Planner(
            parts,
            source,
            feed,
            failed_rows,
            recovery.next_batch,
            has_slot=self._has_slot,
            on_cut=self._cut,
        )
        self._collector = Collector(
            parts, recovery.epochs, on_collected=self._planner.wake, on_forgotten=self._planner.requeue
        )
        self._submissions = BatchSubmissions(
            parts,
            failed_rows,
            has_accepted=recovery.has_accepted_batch,
            on_requeued=self._planner.requeue,
            on_gone=self._planner.drop_body,
        )
        self._uploader = Uploader(parts, self._planner, self._submissions)

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """Return all that plan, take over, send and collect."""
        return [
            self._plan(),
            self._take_over(),
            *(self._uploader.work() for _ in range(self._section.concurrency)),
            *(self._collector.work() for _ in range(self._parts.config.poll.concurrency)),
        ]

    def follow(self, accepted: OpenBatch) -> int:
        """Poll a batch whose acceptance is on record, and return how many rows it has."""
        self._submissions.hand_over(accepted.number)
        self._collector.follow(accepted)
        self._planner.wake()
        return accepted.without_result

    def wake(self) -> None:
        """Cut and send what may be sent now: rows were read, slots are free, or the service is confirmed."""
        self._uploader.wake()

    def stop_submitting(self) -> None:
        """Send nothing more; open batches are still polled."""
        self._planner.close()
        self._uploader.stop()

    def stop(self) -> None:
        """Neither send nor poll any more."""
        self.stop_submitting()
        self._collector.turnstile.close()

    def close(self) -> None:
        """Remove the bodies of batches that were not accepted; all workers have ended."""
        self._submissions.close()

    async def _plan(self) -> None:
        await self._uploader.confirm_service()
        await self._planner.work()

    def _has_slot(self) -> bool:
        """Return whether one more batch may be cut.

        However many batches may be open, only a few have their bodies on the disk.
        """
        submissions = len(self._submissions)
        batches = submissions + len(self._collector) + len(self._unfinished)
        return batches < self._section.max_open and submissions <= self._section.concurrency

    def _cut(self, batch: BatchSubmission) -> None:
        self._submissions.add(batch)

    async def _take_over(self) -> None:
        """Continue with the batches of earlier sessions, once the names of their rows are read."""
        wanted = [batch.intent.ranges for batch in self._unfinished]
        names = [Names() for _ in wanted]
        async for index, row in rows_in(self._source, wanted):
            own = self._source.name(row)
            names[index].add(wire_id(own, names[index].rows), own, row.i)
        for batch, known in zip(self._unfinished, names, strict=True):
            if batch.accepted:
                self._collect_inherited(batch, batch.accepted, known)
            else:
                self._look_up_inherited(batch, known)
        self._unfinished.clear()
        self._planner.wake()

    def _collect_inherited(self, batch: UnfinishedBatch, accepted: BatchAcceptance, names: Names) -> None:
        intent = batch.intent
        names = names.without(_settled(batch, names))
        self._collector.follow(
            OpenBatch(
                id=accepted.id,
                number=intent.batch,
                kind=intent.kind,
                names=names,
                due=intent.due,
                sent=intent.at,
                # A clock that was set back must not delay its deadline.
                accepted=min(accepted.at, self._parts.clock.now()),
                attempts=accepted.attempts,
                without_result=len(names.rows),
                inherited=True,
            )
        )

    def _look_up_inherited(self, unfinished: UnfinishedBatch, names: Names) -> None:
        intent = unfinished.intent
        batch = BatchSubmission(
            number=intent.batch,
            label=intent.label,
            key=intent.key,
            kind=intent.kind,
            names=names,
            ranges=intent.ranges,
            size_bytes=intent.size_bytes,
            body=None,
            due=intent.due,
            sent=intent.at,
            announced=True,
            in_doubt=True,
            settled=_settled(unfinished, names),
        )
        self._parts.in_flight.take(batch.own_count)
        self._submissions.add(batch)


def _settled(batch: UnfinishedBatch, names: Names) -> frozenset[int]:
    """Return the rows in the body of a batch that no longer belong to it."""
    return frozenset(names.rows.values()).difference(batch.rows)
