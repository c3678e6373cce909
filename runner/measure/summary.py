"""The totals of a run: `summary.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from runner.config.prices import Prices
from runner.measure.meter import Meter
from runner.measure.vitals import Vitals
from runner.records import RESULT_STATUSES
from runner.store import replace_atomically

RunStatus = Literal["running", "complete", "interrupted", "stopped"]


class Session:
    """When a run began and for how long it has been worked on, over all its sessions."""

    def __init__(
        self, name: str, started: float, earlier_wall_s: float = 0.0, earlier_cpu_s: float = 0.0
    ) -> None:
        self.name = name
        self.started = started
        self.earlier_wall_s = earlier_wall_s
        self.earlier_cpu_s = earlier_cpu_s
        self.continued = 0
        self.rows = 0
        """Rows of the whole input; a `--limit` may send fewer."""
        self.retried = 0
        """Rows that were given another try by hand."""
        self.wall_s = 0.0
        self.mode = "background"
        """`target.mode`."""

    @property
    def total_wall_s(self) -> float:
        return self.earlier_wall_s + self.wall_s


def cost_usd(tokens: Mapping[str, int], prices: Prices | None) -> float | None:
    """What the tokens cost; None without prices. Cached input tokens are part of the input tokens."""
    if prices is None:
        return None
    cached_price = prices.input if prices.cached is None else prices.cached
    fresh = tokens["input"] - tokens["cached"]
    millionths = fresh * prices.input + tokens["cached"] * cached_price + tokens["output"] * prices.output
    return round(millionths / 1e6, 6)


def summarise(
    meter: Meter, session: Session, status: RunStatus, prices: Prices | None, vitals: Vitals | None
) -> dict[str, Any]:
    """`summary.json`. Without `vitals` (the run was killed, or runs now) it says nothing of the client.

    Acceptances are told per second from the first of them to the last, the rest per second of wall time.
    """
    wall_s = session.total_wall_s
    completed = meter.statuses["completed"]
    return {
        "run": {
            "name": session.name,
            "mode": session.mode,
            "status": status,
            "started": session.started,
            "wall_s": round(wall_s, 3),
            "continued": session.continued,
            "rows": session.rows,
            "spanned_a_stop": meter.spanned,
            "retried": session.retried,
        },
        "requests": {
            "total": meter.total,
            **{status: meter.statuses[status] for status in RESULT_STATUSES},
            "open": meter.open,
            "unsent": meter.unsent,
        },
        "throughput": {
            "accepted_per_s": _per_s(meter.accepted, meter.total_accepting_s),
            "completed_per_s": _per_s(completed, wall_s),
            "output_tokens_per_s": _per_s(meter.tokens["output"], wall_s),
        },
        "milestones_s": meter.milestones.summary(),
        "latency_s": meter.latencies.summary(),
        "polls": {
            "total": meter.polls,
            "per_completion": round(meter.polls / completed, 3) if completed else None,
        },
        "wire": dict(meter.wire),
        "retries": {"submit": dict(meter.submit_retries), "poll": dict(meter.poll_retries)},
        "tokens": dict(meter.tokens),
        "cost_usd": cost_usd(meter.tokens, prices),
        "client": _client(meter, session, vitals),
    }


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Raises `StorageError`."""
    replace_atomically(path, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def _per_s(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds > 0 else 0.0


def _client(meter: Meter, session: Session, vitals: Vitals | None) -> dict[str, Any] | None:
    if vitals is None:
        return None
    cpu = session.earlier_cpu_s + vitals.cpu_s
    return {
        "cpu_s": round(cpu, 3),
        "cpu_us_per_request": round(cpu / meter.done * 1e6, 1) if meter.done else None,
        "max_rss_bytes": vitals.rss_bytes,
        "loop_lag_p99_s": vitals.loop_lag.quantile(99.0),
        "limited": vitals.limited,
    }
