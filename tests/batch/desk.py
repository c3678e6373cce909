"""Batches that are not accepted yet, without the workers that send them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from runner.batch.submission import BatchSubmission
from runner.batch.submissions import BatchSubmissions
from runner.config import RunConfig
from runner.transport.fake import Fake
from tests import virtual_time
from tests.batch.support import config_of
from tests.batch.workbench import Workbench
from tests.listed import listed

Scene: TypeAlias = Callable[["Desk"], Coroutine[Any, Any, None]]


class Desk:
    """Submissions over a workbench, and what they called for."""

    def __init__(self, bench: Workbench, *, has_accepted: bool) -> None:
        self.bench = bench
        self.requeued: list[int] = []
        self.gone: list[int] = []
        self.submissions = BatchSubmissions(
            bench.parts,
            bench.failed_rows,
            has_accepted=has_accepted,
            on_requeued=self._requeued,
            on_gone=lambda batch: self.gone.append(batch.number),
        )
        bench.woken.append(self.submissions.turnstile.wake)
        bench.on_accepted = lambda batch: self.submissions.hand_over(batch.number)

    @property
    def numbers(self) -> set[int]:
        """Numbers of the batches that the submissions own."""
        return set(self.submissions._all)

    def add(self, rows: range, number: int = 0) -> BatchSubmission:
        batch = self.bench.submission(rows, number)
        self.submissions.add(batch)
        return batch

    async def announced(self, rows: range, number: int = 0) -> BatchSubmission:
        """Return a batch that was added, handed out and announced."""
        self.add(rows, number)
        batch = await self.take()
        await self.submissions.announce(batch)
        return batch

    async def take(self) -> BatchSubmission:
        batch = await self.submissions.turnstile.get()
        assert batch is not None
        return batch

    async def takes_at(self, batch: BatchSubmission) -> float:
        """Return the time at which the batch is handed out."""
        assert await self.take() is batch
        return self.bench.clock.now_mono()

    def _requeued(self, rows: Iterable[int]) -> None:
        self.requeued += rows


def play(
    directory: Path,
    scene: Scene,
    config: RunConfig | None = None,
    *,
    fake: Fake | None = None,
    has_accepted: bool = True,
    is_confirmed: bool = True,
) -> None:
    """Play a scene with submissions of 30 rows."""

    async def main() -> None:
        bench = Workbench(directory, fake or Fake(), listed(30), config or config_of())
        desk = Desk(bench, has_accepted=has_accepted)
        if is_confirmed:
            desk.bench.health.confirm()
        await scene(desk)

    virtual_time.run(main())
