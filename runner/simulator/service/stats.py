"""Stats: counts and peaks of what really happened, for tests and harnesses. Served at /simulator/stats."""

from __future__ import annotations

from typing import Literal

import msgspec

ExchangeKind = Literal["post", "get", "batch", "status", "list", "result"]
"""Sorts of exchange: POST and GET of a response; POST and GET of a batch, GET of the list and of a result."""
FaultTable = Literal["post", "get", "batch", "status", "result"]
"""The tables of `simulator.faults`; `status` covers a batch and the list."""


class Stats(msgspec.Struct):
    """Counts of exchanges since the start, and of jobs and batches including those of the state file."""

    posts: int = 0
    """POSTs of responses."""
    gets: int = 0
    """GETs of responses."""
    batch_posts: int = 0
    batch_polls: int = 0
    """GETs of a batch with the states of its requests."""
    batch_lists: int = 0
    """GETs of the list of batches."""
    result_gets: int = 0
    """GETs of a result in a batch."""
    batches: int = 0
    """Accepted batches."""
    batch_replays: int = 0
    """POSTs of batches that were answered from the idempotency keys."""
    accepted: int = 0
    """Accepted jobs, single and in batches."""
    restored: int = 0
    """Accepted jobs that were read from the state file."""
    replayed: int = 0
    """POSTs of responses that were answered from the idempotency keys."""
    executed: int = 0
    """Jobs that were started."""
    delivered: int = 0
    """Jobs whose final response was sent as a whole."""
    polls_after_delivery: int = 0
    cancelled: int = 0
    deleted: int = 0
    rejected: int = 0
    """POSTs refused for their content."""
    unauthorised: int = 0
    throttled: int = 0
    """Requests refused by `simulator.rate_limits`."""
    faults: dict[str, dict[str, int]] = msgspec.field(default_factory=lambda: {"post": {}, "get": {}})
    """Injected faults by table and kind; the tables of batches appear with their first fault."""
    connections: int = 0
    """Connections accepted."""
    open: int = 0
    """Jobs accepted and not delivered yet."""
    running: int = 0
    posts_now: int = 0
    gets_now: int = 0
    batch_posts_now: int = 0
    """POSTs of batches being served: received as a whole, not answered, and the client still connected."""
    peak_posts: int = 0
    """Most POSTs served at once; above 1 only if replies take time."""
    peak_gets: int = 0
    peak_open: int = 0
    peak_running: int = 0
    peak_connections: int = 0

    def enter(self, exchange: ExchangeKind) -> None:
        """Count an exchange that begins."""
        if exchange == "post":
            self.posts += 1
            self.posts_now += 1
            self.peak_posts = max(self.peak_posts, self.posts_now)
        elif exchange == "get":
            self.gets += 1
            self.gets_now += 1
            self.peak_gets = max(self.peak_gets, self.gets_now)
        elif exchange == "batch":
            self.batch_posts += 1
            self.batch_posts_now += 1
        elif exchange == "status":
            self.batch_polls += 1
        elif exchange == "list":
            self.batch_lists += 1
        else:
            self.result_gets += 1

    def leave(self, exchange: ExchangeKind) -> None:
        """Count an exchange that has ended, answered or not."""
        if exchange == "post":
            self.posts_now -= 1
        elif exchange == "get":
            self.gets_now -= 1
        elif exchange == "batch":
            self.batch_posts_now -= 1

    def opened(self, jobs: int) -> None:
        """Count newly accepted jobs."""
        self.accepted += jobs
        self.open += jobs
        self.peak_open = max(self.peak_open, self.open)

    def connected(self, now_open: int) -> None:
        """Count a new connection; `now_open` includes it."""
        self.connections += 1
        self.peak_connections = max(self.peak_connections, now_open)

    def fault(self, table: FaultTable, kind: str) -> None:
        """Count an injected fault."""
        kinds = self.faults.setdefault(table, {})
        kinds[kind] = kinds.get(kind, 0) + 1
