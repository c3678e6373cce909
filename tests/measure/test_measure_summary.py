"""`summary.json`: its shape, byte by byte, its rates and its costs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from runner.config.prices import Prices
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.measure.session_info import SessionInfo
from runner.measure.summary import RequestSummary, cost_usd, summarise, write_summary
from runner.measure.vitals import Vitals
from runner.records import RESULT_STATUSES, Timing, Usage
from tests.measure.conftest import MakeTiming

GOLDEN = """\
{
  "run": {
    "name": "test",
    "mode": "background",
    "status": "interrupted",
    "started": 1000.0,
    "wall_s": 10.0,
    "continued": 1,
    "rows": 50,
    "spanned_a_stop": 0,
    "retried": 0
  },
  "requests": {
    "total": 5,
    "completed": 1,
    "incomplete": 0,
    "failed": 0,
    "cancelled": 0,
    "expired": 0,
    "rejected": 1,
    "uncertain": 0,
    "open": 2,
    "unsent": 1
  },
  "throughput": {
    "accepted_per_s": 0.25,
    "completed_per_s": 0.1,
    "output_tokens_per_s": 0.5
  },
  "milestones_s": {
    "submitted": 1.0,
    "first_result": 3.0,
    "half_results": 3.0,
    "last_result": 4.0
  },
  "latency_s": {
    "schedule_delay": {
      "mean": 0.25,
      "p50": 0.0,
      "p90": 0.5,
      "p95": 0.5,
      "p99": 0.5,
      "p99_9": 0.5,
      "max": 0.5
    },
    "submit": {
      "mean": 0.5,
      "p50": 0.5,
      "p90": 0.5,
      "p95": 0.5,
      "p99": 0.5,
      "p99_9": 0.5,
      "max": 0.5
    },
    "completion": {
      "mean": 4.0,
      "p50": 4.0,
      "p90": 4.0,
      "p95": 4.0,
      "p99": 4.0,
      "p99_9": 4.0,
      "max": 4.0
    },
    "detection_lag_bound": {
      "mean": 1.0,
      "p50": 1.0,
      "p90": 1.0,
      "p95": 1.0,
      "p99": 1.0,
      "p99_9": 1.0,
      "max": 1.0
    },
    "poll": {
      "mean": null,
      "p50": null,
      "p90": null,
      "p95": null,
      "p99": null,
      "p99_9": null,
      "max": null
    }
  },
  "polls": {
    "total": 3,
    "per_completion": 3.0
  },
  "wire": {
    "requests": 5,
    "sent_bytes": 0,
    "received_bytes": 0
  },
  "retries": {
    "submit": {
      "429": 2
    },
    "poll": {}
  },
  "tokens": {
    "input": 10,
    "cached": 0,
    "output": 5,
    "reasoning": 0
  },
  "cost_usd": 0.000015,
  "client": null
}
"""


def _session(wall_s: float = 10.0) -> SessionInfo:
    session = SessionInfo("test", 1000.0)
    session.wall_s = wall_s
    return session


def test_the_file_has_the_keys_the_order_and_the_values_of_the_contract(tmp_path: Path) -> None:
    meter, session = Meter(), _session()
    session.continued, session.rows = 1, 50
    meter.begin(1000.0)
    meter.accept(1000.0, 50.0)
    meter.accept(1001.0, 54.0, 0)
    meter.counts.polls = 3
    meter.wire["requests"] += 5
    meter.counts.submit_retries["429"] += 2
    meter.finished("completed", Timing(1000.0, 1000.5, 1001.0, 1003.0, 1004.0), Usage(input=10, output=5))
    meter.finished("rejected", Timing(1000.0, 1000.0, None, None, 1003.0), Usage())
    in_flight = InFlight(total=5, finished=2, outstanding=2)
    path = tmp_path / "summary.json"
    prices = Prices(input=0.5, output=2.0)
    write_summary(path, summarise(meter, in_flight, session, "interrupted", prices, None))

    assert path.read_text(encoding="utf-8") == GOLDEN


def test_what_the_client_did_is_the_last_section() -> None:
    summary = summarise(Meter(), InFlight(total=3), _session(), "complete", None, Vitals())
    sections = msgspec.to_builtins(summary)

    assert list(sections)[-1] == "client"
    assert list(sections["client"]) == [
        "cpu_s",
        "cpu_us_per_request",
        "max_rss_bytes",
        "loop_lag_p99_s",
        "limited",
    ]


def test_requests_have_a_field_for_every_status() -> None:
    assert RequestSummary.__struct_fields__ == ("total", *RESULT_STATUSES, "open", "unsent")


def test_rates_are_over_the_wall_time_and_that_of_acceptances_from_the_first_to_the_last(
    timing: MakeTiming,
) -> None:
    meter, in_flight = Meter(), InFlight(total=50, finished=21, outstanding=4)
    meter.counts.polls = 60
    for n in range(40):
        meter.accept(1100.0, 100.0 + 4.0 * n / 39)
    for _ in range(20):
        meter.finished("completed", timing(), Usage(input=10, output=5))
    meter.finished("failed", timing(), Usage())
    summary = summarise(meter, in_flight, _session(10.0), "interrupted", None, Vitals())

    rates = summary.throughput
    assert (rates.accepted_per_s, rates.completed_per_s, rates.output_tokens_per_s) == (10.0, 2.0, 10.0)
    assert (summary.polls.total, summary.polls.per_completion) == (60, 3.0)
    counts = msgspec.to_builtins(summary.requests)
    assert counts.pop("total") == sum(counts.values()) == 50
    assert summary.requests.unsent == 25


def test_a_run_of_no_time_with_no_completion_divides_by_nothing() -> None:
    summary = summarise(Meter(), InFlight(), _session(0.0), "stopped", None, None)

    assert set(msgspec.to_builtins(summary.throughput).values()) == {0.0}
    assert summary.polls.per_completion is None
    assert summary.client is None


def test_earlier_sessions_count_into_wall_time_and_cpu() -> None:
    session = SessionInfo("test", 1000.0, earlier_wall_s=50.0, earlier_cpu_s=500.0)
    session.wall_s = 10.0
    summary = summarise(Meter(), InFlight(total=1), session, "complete", None, Vitals())

    assert summary.run.wall_s == 60.0
    assert summary.client is not None
    assert summary.client.cpu_s >= 500.0
    assert summary.client.cpu_us_per_request is None


@pytest.mark.parametrize(
    ("prices", "usd"),
    [
        (None, None),
        (Prices(), 0.0),
        (
            Prices(input=0.40, cached=0.08, output=1.80),
            (750_000 * 0.40 + 250_000 * 0.08 + 500_000 * 1.80) / 1e6,
        ),
        (Prices(input=0.40, output=1.80), (1_000_000 * 0.40 + 500_000 * 1.80) / 1e6),
        (Prices(input=0.40, cached=0.0, output=0.0), 0.30),
    ],
)
def test_cached_input_is_paid_at_its_own_price_and_reasoning_as_output(
    prices: Prices | None, usd: float | None
) -> None:
    tokens = {"input": 1_000_000, "cached": 250_000, "output": 500_000, "reasoning": 400_000}

    assert cost_usd(tokens, prices) == (usd if usd is None else pytest.approx(usd))
