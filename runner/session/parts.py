"""What the parts of a session share: one of each, opened by the session and closed by it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from runner.config.run_config import RunConfig
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.policy.admission import Admission
from runner.policy.circuit import Circuit
from runner.policy.rate_gate import RateGate
from runner.policy.retry import wait_s
from runner.session.clock import Clock
from runner.session.exchanges import Exchanges
from runner.session.health import ServiceHealth
from runner.session.limits import LimitCheck
from runner.session.sink import AcceptedT, Sink
from runner.store import Files
from runner.transport import Transport


@dataclass(frozen=True, slots=True)
class Parts(Generic[AcceptedT]):
    """What a mode works with. The session owns all of it."""

    config: RunConfig
    """Its limits are those of this process."""
    files: Files
    run_id: str
    transport: Transport
    sink: Sink[AcceptedT]
    meter: Meter
    in_flight: InFlight
    clock: Clock
    health: ServiceHealth
    limits: LimitCheck
    say: Callable[[str], None]
    """Inform the user of something, in one line."""
    random: random.Random
    """Seeded by the run: runs that are throttled together must not come back together."""

    def exchanges(self, on_reopened: Callable[[], None], max_rate_per_s: float | None = None) -> Exchanges:
        """Return one sort of exchange; `on_reopened` is called when waiting workers should ask again."""
        rules = RateGate(max_rate_per_s), Circuit(self.config.limits.max_outage_s)
        return Exchanges(Admission(*rules), self.health, say=self.say, on_reopened=on_reopened)

    def retry_wait_s(self, failures: int, retry_after_s: float | None) -> float:
        """Return the seconds before the next try after `failures` failures in a row."""
        retry = self.config.submit.retry
        return wait_s(failures, retry.base_s, retry.cap_s, self.random.random(), retry_after_s)
