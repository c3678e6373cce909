"""`summary.json`, its costs, and the samples of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.config.prices import Prices
from runner.measure.history import recall
from runner.measure.meter import Meter
from runner.measure.series import Series, last_sample
from runner.measure.summary import Session, cost_usd, summarise
from runner.measure.vitals import Vitals
from runner.records import Job, Timing, Usage
from runner.store import Acceptance, Intent, Journal, Manifest, RunDir

SPAN = {"mean", "p50", "p90", "p95", "p99", "p99_9", "max"}
KEYS = {
    "run": {"name", "mode", "status", "started", "wall_s", "continued", "rows", "spanned_a_stop", "retried"},
    "requests": {
        "total", "completed", "incomplete", "failed", "cancelled", "expired", "rejected", "uncertain",
        "open", "unsent",
    },
    "throughput": {"accepted_per_s", "completed_per_s", "output_tokens_per_s"},
    "milestones_s": {"submitted", "first_result", "half_results", "last_result"},
    "latency_s": {"schedule_delay", "submit", "completion", "detection_lag_bound", "poll"},
    "polls": {"total", "per_completion"},
    "wire": {"requests", "sent_bytes", "received_bytes"},
    "retries": {"submit", "poll"},
    "tokens": {"input", "cached", "output", "reasoning"},
    "client": {"cpu_s", "cpu_us_per_request", "max_rss_bytes", "loop_lag_p99_s", "limited"},
}  # fmt: skip


def _session(wall_s: float = 10.0) -> Session:
    session = Session("test", 1000.0)
    session.wall_s = wall_s
    return session


def test_the_summary_has_exactly_the_keys_of_the_contract() -> None:
    summary = summarise(Meter(3), _session(), "complete", None, Vitals())

    assert set(summary) == {*KEYS, "cost_usd"}
    for section, keys in KEYS.items():
        assert set(summary[section]) == keys
    assert all(set(span) == SPAN for span in summary["latency_s"].values())
    assert msgspec.json.decode(msgspec.json.encode(summary)) == summary


def test_rates_are_over_the_wall_time_and_that_of_acceptances_from_the_first_to_the_last(
    timing: Callable[..., Timing],
) -> None:
    meter = Meter(50)
    meter.polls = 60
    for n in range(40):
        meter.accept(100.0 + 4.0 * n / 39)
    for _ in range(20):
        meter.finished("completed", timing(), Usage(input=10, output=5))
    meter.finished("failed", timing(), Usage())
    meter.submit_retries["429"] += 2
    meter.open = 4
    summary = summarise(meter, _session(10.0), "interrupted", None, Vitals())

    assert summary["throughput"] == {
        "accepted_per_s": 10.0,
        "completed_per_s": 2.0,
        "output_tokens_per_s": 10.0,
    }
    assert summary["polls"] == {"total": 60, "per_completion": 3.0}
    assert summary["retries"] == {"submit": {"429": 2}, "poll": {}}
    assert summary["requests"]["unsent"] == 25
    counts = {key: value for key, value in summary["requests"].items() if key != "total"}
    assert sum(counts.values()) == summary["requests"]["total"] == 50


def test_a_run_of_no_time_with_no_completion_divides_by_nothing() -> None:
    summary = summarise(Meter(0), _session(0.0), "stopped", None, None)

    assert set(summary["throughput"].values()) == {0.0}
    assert summary["polls"]["per_completion"] is None
    assert summary["client"] is None


def test_earlier_sessions_count_into_wall_time_and_cpu() -> None:
    session = Session("test", 1000.0, earlier_wall_s=50.0, earlier_cpu_s=500.0)
    session.wall_s = 10.0
    meter = Meter(1)
    summary = summarise(meter, session, "complete", None, Vitals())

    assert summary["run"]["wall_s"] == 60.0
    assert summary["client"]["cpu_s"] >= 500.0
    assert summary["client"]["cpu_us_per_request"] is None


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
    prices: Any, usd: float | int | None
) -> None:
    tokens = {"input": 1_000_000, "cached": 250_000, "output": 500_000, "reasoning": 400_000}

    assert cost_usd(tokens, prices) == (usd if usd is None else pytest.approx(usd))


def test_a_series_is_a_line_a_sample_with_rates_since_the_last_one(tmp_path: Path) -> None:
    meter, session = Meter(100), _session(0.0)
    series = Series(tmp_path / "metrics.jsonl", meter, Vitals(), session)
    meter.accepted, meter.polls, meter.open = 10, 4, 10
    session.wall_s = 2.0
    first = series.sample(1002.0)
    meter.accepted, meter.polls = 16, 5
    meter.wire["requests"] += 21
    session.wall_s = 4.0
    second = series.sample(1004.0)
    series.close()

    lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line) for line in lines] == [first, second]
    assert (first["accepted_per_s"], first["polls_per_s"]) == (5.0, 2.0)
    assert (second["accepted_per_s"], second["polls_per_s"]) == (3.0, 0.5)
    assert (second["at"], second["wall_s"], second["in_flight"]) == (1004.0, 4.0, 10)
    assert second["wire"] == {"requests": 21, "sent_bytes": 0, "received_bytes": 0}
    assert last_sample(tmp_path / "metrics.jsonl") == second


def test_two_samples_at_one_moment_divide_by_nothing(tmp_path: Path) -> None:
    series = Series(tmp_path / "metrics.jsonl", Meter(1), Vitals(), _session(0.0))

    assert series.sample(1.0)["polls_per_s"] == series.sample(1.0)["polls_per_s"] == 0.0
    series.close()


def test_a_continued_series_goes_on_after_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"wall_s": 7.0}\n{"wall_s": 8.')
    assert last_sample(path) == {"wall_s": 7.0}

    series = Series(path, Meter(1), Vitals(), _session())
    series.sample(1.0)
    series.close()
    assert len(path.read_bytes().splitlines()) == 2
    assert last_sample(path)["wall_s"] == 10.0


@pytest.mark.parametrize("content", [None, b"", b'{"wall_s": 8.', b"[1]\n", b"\xff\n", b"{\n", b"\n"])
def test_metrics_that_tell_nothing_are_an_empty_sample(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "metrics.jsonl"
    if content is not None:
        path.write_bytes(content)

    assert last_sample(path) == {}


MANIFEST = Manifest(
    format=1,
    run_id="r",
    name="test",
    created=1000.0,
    version="0",
    rows=10,
    input="",
    settings={},
    key_salt="",
    key="",
)


def _killed_with(tmp_path, *, accepted: int, intended: int) -> RunDir:
    run_dir = RunDir(tmp_path)
    journal = Journal(run_dir.journal)
    for row in range(accepted + intended):
        journal.write(Intent(row=row, custom_id=f"id-{row}", key="k", due=1.0, at=1.0))
    for row in range(accepted):
        journal.write(Acceptance(row=row, job=f"j{row}", kind="m", attempts=1, at=2.0))
    journal.log.close()
    run_dir.metrics.write_bytes(b'{"wall_s": 4.0, "cpu_s": 1.5, "retries": {"submit": {"500": 3}}}\n')
    return run_dir


def test_what_is_recalled_goes_on_from_the_last_sample(tmp_path: Path) -> None:
    history = recall(_killed_with(tmp_path, accepted=3, intended=1), MANIFEST, 10)

    assert (history.session.earlier_wall_s, history.session.earlier_cpu_s) == (4.0, 1.5)
    assert (history.session.started, history.session.continued) == (1000.0, 0)
    assert history.meter.submit_retries == {"500": 3}
    assert history.meter.total == 10
    assert all(isinstance(job, Job) for job in history.recovery.outstanding.values())


def test_jobs_accepted_by_an_earlier_session_stay_counted_as_accepted(tmp_path: Path) -> None:
    history = recall(_killed_with(tmp_path, accepted=3, intended=1), MANIFEST, 10)

    assert history.meter.accepted == 3


def test_a_smaller_limit_still_counts_what_was_sent_beyond_it(tmp_path: Path) -> None:
    history = recall(_killed_with(tmp_path, accepted=3, intended=0), MANIFEST, 2)

    assert history.meter.total == 3
