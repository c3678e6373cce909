"""One line a second: `metrics.jsonl`."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from runner.measure.meter import Meter
from runner.measure.summary import Session
from runner.measure.vitals import Vitals
from runner.store import AppendLog
from runner.store.files import cut_torn_tail, read_lines

_encode = msgspec.json.Encoder().encode


class Series:
    """Appends a sample of the meter; rates are over the time since the last one."""

    def __init__(self, path: Path, meter: Meter, vitals: Vitals, session: Session) -> None:
        cut_torn_tail(path)
        self._log = AppendLog(path)
        self._meter = meter
        self._vitals = vitals
        self._session = session
        self._before = (0.0, meter.accepted, meter.statuses["completed"], meter.polls)

    def sample(self, unix: float) -> dict[str, Any]:
        """Write one line, and return it. Raises `StorageError`."""
        meter, vitals, session = self._meter, self._vitals, self._session
        before_s, accepted, completed, polls = self._before
        elapsed_s = session.wall_s - before_s
        self._before = (session.wall_s, meter.accepted, meter.statuses["completed"], meter.polls)

        def rate(now: int, then: int) -> float:
            return round((now - then) / elapsed_s, 2) if elapsed_s > 0 else 0.0

        sample = {
            "at": round(unix, 3),
            "wall_s": round(session.total_wall_s, 3),
            "began": meter.began,
            "requests": {k: v for k, v in meter.statuses.items() if v},
            "done": meter.done,
            "in_flight": meter.open,
            "posting": meter.posting,
            "polls": meter.polls,
            "accepting_s": round(meter.total_accepting_s, 3),
            "accepted_per_s": rate(meter.accepted, accepted),
            "completed_per_s": rate(meter.statuses["completed"], completed),
            "polls_per_s": rate(meter.polls, polls),
            "wire": dict(meter.wire),
            "retries": {"submit": dict(meter.submit_retries), "poll": dict(meter.poll_retries)},
            "completion_s": {
                p: meter.latencies.completion.quantile(q) for p, q in (("p50", 50.0), ("p95", 95.0))
            },
            "cpu_share": round(vitals.second_passed(elapsed_s), 3),
            "cpu_s": round(session.earlier_cpu_s + vitals.cpu_s, 3),
            "loop_lag_p99_s": vitals.loop_lag.quantile(99.0),
            "rss_bytes": vitals.rss_bytes,
        }
        self._log.append(_encode(sample) + b"\n")
        return sample

    def close(self) -> None:
        self._log.close()


def last_sample(path: Path) -> dict[str, Any]:
    """The last whole line of an earlier session's metrics; empty where there is none."""
    last = next(iter(deque(read_lines(path), maxlen=1)), b"{}")
    try:
        sample = msgspec.json.decode(last)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return sample if isinstance(sample, dict) else {}
