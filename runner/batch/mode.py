"""Batch mode: planner, uploader and collector, and what earlier sessions left to them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from runner.batch.collector import Collector
from runner.batch.failed_rows import Endings
from runner.batch.names import wire_id
from runner.batch.open_batch import OpenBatch
from runner.batch.planner import Planner
from runner.batch.rereading import lines_in
from runner.batch.submission import Draft, Names
from runner.batch.submissions import Drafts
from runner.batch.uploader import Uploader
from runner.session.feed import Feed
from runner.session.parts import Parts
from runner.source import Source
from runner.store import BatchAcceptance, UnfinishedBatch, Recovery


class Batches:
    """What stands between rows and results in batch mode. A `Middle`; see there."""

    def __init__(self, parts: Parts, source: Source, feed: Feed, recovery: Recovery) -> None:
        self._parts = parts
        self._section = parts.config.batch
        self._source = source
        self._left = list(recovery.batches.values())
        """Batches of earlier sessions, until all of them are taken over."""
        endings = Endings(parts, recovery.epochs)
        self._planner = Planner(parts, source, feed, endings, recovery.next_batch)
        self._collector = Collector(parts, recovery.epochs)
        self._drafts = Drafts(
            parts, self._planner, endings, self._follow, any_accepted=recovery.has_accepted_batch
        )
        self._uploader = Uploader(parts, self._planner, self._drafts)
        self._planner.has_place = self._has_place
        self._planner.on_cut = self._drafts.add
        self._collector.on_collected = self._planner.wake
        self._collector.on_forgotten = self._planner.again
        parts.meter.unacknowledged = recovery.unacknowledged_count

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """Those that plan, those that send, and those that collect."""
        # Counted at once: whether anything is open decides when a run may end.
        self._parts.meter.open += sum(len(left.rows) for left in self._left if left.accepted)
        return [
            self._plan(),
            self._take_over(),
            *(self._uploader.work() for _ in range(self._section.concurrency)),
            *(self._collector.work() for _ in range(self._parts.config.poll.concurrency)),
        ]

    def places_are_free(self) -> None:
        """Results are written."""
        self._planner.wake()

    def stop_submitting(self) -> None:
        """Nothing more is sent."""
        self._planner.close()
        self._uploader.stop()

    def stop(self) -> None:
        """Nothing more is collected either."""
        self.stop_submitting()
        self._collector.turnstile.close()

    def close(self) -> None:
        """Bodies that were not sent can be made again."""
        self._drafts.close()

    async def _plan(self) -> None:
        await self._uploader.meet()
        await self._planner.work()

    def _has_place(self) -> bool:
        """For one batch more; those whose bodies are on the disk are few, however many may be open."""
        drafts = len(self._drafts)
        batches = drafts + len(self._collector) + len(self._left)
        return batches < self._section.max_open and drafts <= self._section.concurrency

    def _follow(self, draft: Draft, batch_id: str, accepted: float) -> None:
        self._parts.meter.open += draft.own_count
        self._collector.follow(
            OpenBatch(
                id=batch_id,
                number=draft.number,
                kind=draft.kind,
                names=draft.own_names,
                due=draft.due,
                sent=draft.sent or accepted,
                accepted=accepted,
                attempts=draft.attempts,
                without_result=draft.own_count,
                inherited=False,
            )
        )

    async def _take_over(self) -> None:
        """Go on with the batches of earlier sessions, once their rows are read and their names known."""
        wanted = [left.intent.ranges for left in self._left]
        names = [Names() for _ in wanted]
        async for index, line in lines_in(self._source, wanted):
            own = self._source.name(line)
            names[index].add(wire_id(own, names[index].rows), own, line.i)
        for left, known in zip(self._left, names, strict=True):
            if left.accepted:
                self._collect_again(left, left.accepted, known)
            else:
                self._look_for(left, known)
        self._left.clear()
        self._planner.wake()

    def _collect_again(self, left: UnfinishedBatch, accepted: BatchAcceptance, names: Names) -> None:
        intent = left.intent
        names = names.without(_settled(left, names))
        now = self._parts.clock.unix(self._parts.clock.now())
        self._collector.follow(
            OpenBatch(
                id=accepted.id,
                number=intent.batch,
                kind=intent.kind,
                names=names,
                due=intent.due,
                sent=intent.at,
                accepted=min(accepted.at, now),  # a clock that was set back must not stretch its deadline
                attempts=accepted.attempts,
                without_result=len(names.rows),
                inherited=True,
            )
        )

    def _look_for(self, left: UnfinishedBatch, names: Names) -> None:
        intent = left.intent
        draft = Draft(
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
            intended=True,
            in_doubt=True,
            settled=_settled(left, names),
        )
        self._planner.expect(draft)
        self._drafts.add(draft)


def _settled(left: UnfinishedBatch, names: Names) -> frozenset[int]:
    """Rows of a batch that are not its own any more."""
    return frozenset(names.rows.values()).difference(left.rows)
