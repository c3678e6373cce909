"""How a run stands at one moment: a line of `metrics.jsonl`, and what every output is given."""

from __future__ import annotations

import msgspec


class Retries(msgspec.Struct, frozen=True):
    """Retries by cause: of POSTs, and of polls."""

    submit: dict[str, int]
    poll: dict[str, int]


class CompletionTimes(msgspec.Struct, frozen=True):
    """Quantiles of the time from due to done, in seconds; None while no request is completed."""

    p50: float | None
    p95: float | None


class Sample(msgspec.Struct, frozen=True):
    """A run at one moment, earlier sessions included; rates are over the time since the last sample."""

    at: float
    """Unix seconds."""
    wall_s: float
    """Seconds that all sessions ran."""
    began: float | None
    """Beginning of the first session, in Unix seconds."""
    requests: dict[str, int]
    """Results on record by status; statuses without any are left out."""
    done: int
    """Results on record."""
    in_flight: int
    """Rows that are accepted and not done."""
    posting: int
    """POSTs being sent."""
    polls: int
    accepting_s: float
    """Seconds between the first and the last acceptance, summed over sessions."""
    accepted_per_s: float
    completed_per_s: float
    polls_per_s: float
    wire: dict[str, int]
    """HTTP exchanges that were tried, and the bytes of their messages before TLS."""
    retries: Retries
    completion_s: CompletionTimes
    cpu_share: float
    """Share of one core that this process used during the last second."""
    cpu_s: float
    """CPU seconds of all sessions."""
    loop_lag_p99_s: float | None
    """How late the event loop wakes a sleeper."""
    rss_bytes: int
    """Peak resident memory."""

    @property
    def completed(self) -> int:
        """Results with status `completed`."""
        return self.requests.get("completed", 0)

    @property
    def not_completed(self) -> int:
        """Results with any other status."""
        return self.done - self.completed

    @property
    def submitted(self) -> int:
        """Rows that need no POST any more: outstanding or done."""
        return self.done + self.in_flight

    @property
    def retry_count(self) -> int:
        """POSTs and polls that were retried."""
        return sum(self.retries.submit.values()) + sum(self.retries.poll.values())
