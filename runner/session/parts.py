"""What a session works with: opened together, closed together, one of each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from runner.config import RunConfig
from runner.measure.meter import Meter
from runner.policy.rate_gate import RateGate
from runner.policy.retry import wait_s
from runner.session.clock import Clock
from runner.session.health import FIRST_PATIENCE_S, Contact
from runner.session.limits import Limits
from runner.session.sink import Sink
from runner.store import Files, Journal, Reserve, Results, SessionStart
from runner.transport import Transport, open_transport
from runner.transport.outcomes import Throttled

WORTH_SAYING_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each for a session."""

    config: RunConfig
    files: Files
    run_id: str
    transport: Transport
    journal: Journal
    results: Results
    reserve: Reserve
    sink: Sink
    meter: Meter
    clock: Clock
    contact: Contact
    limits: Limits
    warn: Callable[[str], None]
    random: random.Random
    """Seeded by the run: runs that are throttled together must not come back together."""

    @classmethod
    def open(
        cls,
        config: RunConfig,
        files: Files,
        run_id: str,
        base_url: str,
        key: str,
        meter: Meter,
        warn: Callable[[str], None],
        first_patience_s: float = FIRST_PATIENCE_S,
    ) -> Self:
        """Open the files of the run and a transport to the service. Raises `StorageError`."""
        journal, results = Journal(files.journal), Results(files.results)
        return cls(
            config=config,
            files=files,
            run_id=run_id,
            transport=open_transport(config, base_url, key, meter.wire),
            journal=journal,
            results=results,
            reserve=Reserve(files.reserve),
            sink=Sink(results, journal, meter, config.sink.store, config.sink.fsync_s),
            meter=meter,
            clock=Clock(),
            contact=Contact(config, base_url, warn, first_patience_s),
            limits=Limits(config, meter),
            warn=warn,
            random=random.Random(run_id),
        )

    def begin(self, session: int, *, resumes: bool) -> None:
        """Mark in the journal that session number `session` begins, or goes on in another process.

        `resumes`: there may be jobs that nobody watched for a while. Raises `StorageError`.
        """
        began = self.clock.unix(self.clock.now())
        self.journal.write(SessionStart(at=began, number=session))
        if resumes:
            self.meter.restarts.append(began)

    async def close(self) -> None:
        """Everything that was written is on the disk. Raises `StorageError`."""
        self.reserve.release()
        await self.transport.close()
        try:
            await asyncio.to_thread(self.sink.sync)
        finally:
            self.journal.log.close()
            self.results.log.close()

    def throttled(self, gate: RateGate, outcome: Throttled, sent: float, now: float) -> None:
        """Close a gate, and say so where nothing will move for a while."""
        is_news = gate.throttled(now, sent, outcome.wait_s)
        if is_news and (outcome.wait_s or 0.0) >= WORTH_SAYING_S:
            self.warn(f"waiting {outcome.wait_s:g} s, as the service asks: {outcome.failure.message}")

    def retry_wait_s(self, failures: int, retry_after_s: float | None) -> float:
        """Seconds before the next try after `failures` failures in a row."""
        retry = self.config.submit.retry
        return wait_s(failures, retry.base_s, retry.cap_s, self.random.random(), retry_after_s)
