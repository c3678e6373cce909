"""A reply to a request: decided by the API, carried out by the connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from runner.config.simulation import FaultKind
from runner.simulator.service.job import SimulatedJob
from runner.simulator.service.stats import ExchangeKind

Manner = Literal["whole", "cut", "reset", "close", "hang"]
"""How a reply is sent.

`cut`: half of the body, then the connection is closed. `reset`, `close`: nothing, and the connection is reset
or closed. `hang`: nothing, until the client goes away.
"""


class HttpReply(msgspec.Struct, omit_defaults=True):
    """One reply; or, with `waits_for` or `work`, how to get it."""

    status_code: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    retry_after: str | None = None
    """The header Retry-After, or None."""
    allow: str | None = None
    """The header Allow, or None."""
    manner: Manner = "whole"
    delay_s: float = 0.0
    exchange: ExchangeKind | None = None
    """The sort of exchange that the stats count it as, or None."""
    job: SimulatedJob | None = None
    """The job whose response object is the body."""
    delivers: bool = False
    """Whether the job counts as delivered once this is sent."""
    waits_for: SimulatedJob | None = None
    """The job to wait for, if the reply is not ready."""
    check_at: float = 0.0
    """When to check whether that job is done, in Unix seconds."""
    fault: FaultKind | None = None
    """The fault to apply once that job is done."""
    stream: Iterator[bytes] | None = None
    """The body in pieces, if it is too large to build at once."""
    work: SlicedWork | None = None
    """The work that makes the reply, if it is not ready."""


SlicedWork = Iterator[float | HttpReply]
"""Work that runs one slice at each `next`.

A slice yields the seconds to rest before the next one (0 for none), or the reply; work may go on after that.
Never raises for what a client sends.
"""
