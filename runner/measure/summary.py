"""The totals of a run: `summary.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from runner.config.prices import Prices
from runner.measure.in_flight import InFlight
from runner.measure.latencies import LatencySummary
from runner.measure.meter import Meter
from runner.measure.milestones import MilestoneSummary
from runner.measure.sample import Retries
from runner.measure.session_info import SessionInfo
from runner.measure.vitals import Vitals
from runner.records import RESULT_STATUSES
from runner.store import replace_atomically

RunStatus = Literal["running", "complete", "interrupted", "stopped"]


class RunSummary(msgspec.Struct, frozen=True):
    """Which run this is, and how far it came."""

    name: str
    mode: str
    status: RunStatus
    started: float
    wall_s: float
    continued: int
    rows: int
    spanned_a_stop: int
    retried: int


class RequestSummary(msgspec.Struct, frozen=True):
    """Rows by result status; `open` is outstanding, `unsent` is the rest of `total`."""

    total: int
    completed: int
    incomplete: int
    failed: int
    cancelled: int
    expired: int
    rejected: int
    uncertain: int
    open: int
    unsent: int


class Throughput(msgspec.Struct, frozen=True):
    """Acceptances per second from the first to the last; the others per second of wall time."""

    accepted_per_s: float
    completed_per_s: float
    output_tokens_per_s: float


class PollSummary(msgspec.Struct, frozen=True):
    """Polls, and how many it took for each completed request."""

    total: int
    per_completion: float | None


class ClientSummary(msgspec.Struct, frozen=True):
    """What the run cost the machine of the client, and whether that held it back."""

    cpu_s: float
    cpu_us_per_request: float | None
    max_rss_bytes: int
    loop_lag_p99_s: float | None
    limited: bool


class Summary(msgspec.Struct, frozen=True):
    """`summary.json`."""

    run: RunSummary
    requests: RequestSummary
    throughput: Throughput
    milestones_s: MilestoneSummary
    latency_s: LatencySummary
    polls: PollSummary
    wire: dict[str, int]
    retries: Retries
    tokens: dict[str, int]
    cost_usd: float | None
    client: ClientSummary | None


def cost_usd(tokens: Mapping[str, int], prices: Prices | None) -> float | None:
    """Return the price of the tokens in USD, or None without prices.

    Cached input tokens are part of the input tokens, and reasoning tokens part of the output tokens.
    """
    if prices is None:
        return None
    cached_price = prices.input if prices.cached is None else prices.cached
    uncached = tokens["input"] - tokens["cached"]
    millionths = uncached * prices.input + tokens["cached"] * cached_price + tokens["output"] * prices.output
    return round(millionths / 1e6, 6)


def summarise(
    meter: Meter,
    in_flight: InFlight,
    session: SessionInfo,
    status: RunStatus,
    prices: Prices | None,
    vitals: Vitals | None,
) -> Summary:
    """Return the totals of a run.

    Without `vitals` (the run was killed, or another process works on it) there is nothing about the client.
    """
    counts, wall_s = meter.counts, session.total_wall_s
    completed = counts.statuses["completed"]
    return Summary(
        run=RunSummary(
            name=session.name,
            mode=session.mode,
            status=status,
            started=session.started,
            wall_s=round(wall_s, 3),
            continued=session.continued,
            rows=session.rows,
            spanned_a_stop=counts.spanned,
            retried=session.retried,
        ),
        requests=RequestSummary(
            total=in_flight.total,
            open=in_flight.outstanding,
            unsent=in_flight.unsent,
            **{status: counts.statuses[status] for status in RESULT_STATUSES},
        ),
        throughput=Throughput(
            accepted_per_s=_per_s(counts.accepted, meter.total_accepting_s),
            completed_per_s=_per_s(completed, wall_s),
            output_tokens_per_s=_per_s(counts.tokens["output"], wall_s),
        ),
        milestones_s=meter.milestones.summary(counts),
        latency_s=meter.latencies.summary(),
        polls=PollSummary(
            total=counts.polls, per_completion=round(counts.polls / completed, 3) if completed else None
        ),
        wire=dict(counts.wire),
        retries=Retries(submit=dict(counts.submit_retries), poll=dict(counts.poll_retries)),
        tokens=dict(counts.tokens),
        cost_usd=cost_usd(counts.tokens, prices),
        client=None if vitals is None else _client(meter, session, vitals),
    )


def write_summary(path: Path, summary: Summary) -> None:
    """Replace the file atomically. Raises `StorageError`."""
    replace_atomically(path, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def _per_s(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds > 0 else 0.0


def _client(meter: Meter, session: SessionInfo, vitals: Vitals) -> ClientSummary:
    cpu_s = session.earlier_cpu_s + vitals.cpu_s
    return ClientSummary(
        cpu_s=round(cpu_s, 3),
        cpu_us_per_request=round(cpu_s / meter.done * 1e6, 1) if meter.done else None,
        max_rss_bytes=vitals.rss_bytes,
        loop_lag_p99_s=vitals.loop_lag.quantile(99.0),
        limited=vitals.limited,
    )
