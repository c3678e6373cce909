"""What submitter and poller work with together; made once by the run."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from runner.config.sections import RunConfig
from runner.measure.meter import Meter
from runner.pipeline.clock import Clock
from runner.pipeline.contact import Contact
from runner.pipeline.limits import Limits
from runner.pipeline.sink import Sink
from runner.policy.limiter import Gate
from runner.policy.retry import wait_s
from runner.store import Journal
from runner.transport import Transport
from runner.transport.outcomes import Throttled

WORTH_SAYING_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each for a run."""

    config: RunConfig
    run_id: str
    transport: Transport
    journal: Journal
    sink: Sink
    meter: Meter
    clock: Clock
    contact: Contact
    limits: Limits
    warn: Callable[[str], None]
    random: random.Random
    """Seeded by the run: runs that are throttled together must not come back together."""

    def throttled(self, gate: Gate, outcome: Throttled, sent: float, now: float) -> None:
        """Close a gate, and say so where nothing will move for a while."""
        is_news = gate.throttled(now, sent, outcome.wait_s)
        if is_news and (outcome.wait_s or 0.0) >= WORTH_SAYING_S:
            self.warn(f"waiting {outcome.wait_s:g} s, as the service asks: {outcome.failure.message}")

    def retry_wait_s(self, failures: int, retry_after_s: float | None) -> float:
        """Seconds before the next try after `failures` failures in a row."""
        retry = self.config.submit.retry
        return wait_s(failures, retry.base_s, retry.cap_s, self.random.random(), retry_after_s)
