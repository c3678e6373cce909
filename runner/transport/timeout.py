"""The timeout of one kind of exchange: its deadline, and the words for one that took too long."""

from __future__ import annotations

from runner.transport.deadlines import Deadlines
from runner.transport.faults import Faults
from runner.transport.scrub import Scrubber


class Timeout:
    """A timeout of `timeout_s`; `setting` is its key in the config, for messages."""

    def __init__(self, scrub: Scrubber, timeout_s: float, setting: str) -> None:
        self.timeout_s = timeout_s
        self.deadlines = Deadlines(timeout_s)
        self.faults = Faults(scrub, timeout_s, setting)
