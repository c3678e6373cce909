"""The stats of what happened, for tests and harnesses: counts and peaks. Served at /simulator/stats."""

from __future__ import annotations

from typing import Literal

import msgspec

Exchange = Literal["post", "get", "batch", "look", "list", "result"]
"""The last four: POST /batches, GET of a batch, of the list of batches, and of a result in a batch."""
FaultTable = Literal["post", "get", "batch", "status", "result"]


class Stats(msgspec.Struct):
    """Exchanges are counted since the start; jobs include those read from the state file, and those of
    batches. `posts` and `gets` are of responses alone."""

    posts: int = 0
    gets: int = 0
    batch_posts: int = 0
    batch_polls: int = 0
    """GETs of a batch and of the states of its requests."""
    batch_lists: int = 0
    result_gets: int = 0
    batches: int = 0
    """Batches accepted, those read from the state file among them."""
    batch_replays: int = 0
    """POSTs of batches answered from the idempotency table."""
    accepted: int = 0
    restored: int = 0
    """Those of `accepted` that were read from the state file."""
    replayed: int = 0
    """POSTs answered from the idempotency table."""
    executed: int = 0
    """Jobs that were started."""
    delivered: int = 0
    polls_after_delivery: int = 0
    cancelled: int = 0
    deleted: int = 0
    rejected: int = 0
    """POSTs refused for what they ask."""
    unauthorised: int = 0
    throttled: int = 0
    faults: dict[str, dict[str, int]] = msgspec.field(default_factory=lambda: {"post": {}, "get": {}})
    """By table; those of batches are there once one was met."""
    connections: int = 0
    open: int = 0
    """Accepted and not yet delivered."""
    running: int = 0
    posts_now: int = 0
    gets_now: int = 0
    batch_posts_now: int = 0
    """POSTs of batches that have come whole and are not answered, where the client is still there."""
    peak_posts: int = 0
    """POSTs being served at once; above 1 only where answers take time."""
    peak_gets: int = 0
    peak_open: int = 0
    peak_running: int = 0
    peak_connections: int = 0

    def enter(self, exchange: Exchange) -> None:
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
        elif exchange == "look":
            self.batch_polls += 1
        elif exchange == "list":
            self.batch_lists += 1
        else:
            self.result_gets += 1

    def leave(self, exchange: Exchange) -> None:
        if exchange == "post":
            self.posts_now -= 1
        elif exchange == "get":
            self.gets_now -= 1
        elif exchange == "batch":
            self.batch_posts_now -= 1

    def opened(self, jobs: int) -> None:
        self.accepted += jobs
        self.open += jobs
        self.peak_open = max(self.peak_open, self.open)

    def connected(self, now_open: int) -> None:
        self.connections += 1
        self.peak_connections = max(self.peak_connections, now_open)

    def fault(self, table: FaultTable, kind: str) -> None:
        kinds = self.faults.setdefault(table, {})
        kinds[kind] = kinds.get(kind, 0) + 1
