"""How long one sort of exchange may take, and what is said of one that took too long."""

from __future__ import annotations

from runner.transport.deadlines import Deadlines
from runner.transport.faults import Faults
from runner.transport.scrub import Scrubber


class Timeout:
    """`setting` is the key of the config that gives `timeout_s`."""

    def __init__(self, scrub: Scrubber, timeout_s: float, setting: str) -> None:
        self.timeout_s = timeout_s
        self.deadlines = Deadlines(timeout_s)
        self.faults = Faults(scrub, timeout_s, setting)
