"""A reply: what an exchange is to be answered, decided by the API and carried out by the connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from runner.config.simulation import FaultKind
from runner.simulator.service.job import SimulatedJob
from runner.simulator.service.stats import Exchange

Manner = Literal["whole", "cut", "reset", "close", "hang"]
"""`cut`: less than announced, then closed. `reset`, `close`: closed without an answer, at once or properly.
`hang`: nothing, until the client goes away."""


class HttpReply(msgspec.Struct, omit_defaults=True):
    status_code: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    retry_after: str | None = None
    allow: str | None = None
    manner: Manner = "whole"
    delay_s: float = 0.0
    exchange: Exchange | None = None
    """What it counts as while it is being served."""
    job: SimulatedJob | None = None
    """The job whose response object this is."""
    delivers: bool = False
    """Whether the job counts as delivered once this is sent."""
    waits_for: SimulatedJob | None = None
    """Not ready: this job is not done."""
    look_again: float = 0.0
    """When to see whether it is (Unix seconds)."""
    fault: FaultKind | None = None
    """To be applied to a reply that is not ready yet."""
    stream: Iterator[bytes] | None = None
    """The body in pieces, for one too large to build at once."""
    work: SlicedWork | None = None
    """Not ready: this makes the reply."""


SlicedWork = Iterator[float | HttpReply]
"""Goes on by a slice each time it is asked: says how many seconds it wants to rest, 0 for not at all, or what
the reply is, after which it may go on. Never raises for what a client sends."""
