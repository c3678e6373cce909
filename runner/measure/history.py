"""The totals of a run as its files tell them: for continuing it, and for reporting one that was killed."""

from __future__ import annotations

from typing import Any

import msgspec

from runner.measure.meter import Meter
from runner.measure.series import last_sample
from runner.measure.summary import Session
from runner.store import Manifest, Recovery, RunDir, recover, session_starts


class History(msgspec.Struct):
    """What earlier sessions left; `meter` and `session` go on from there."""

    meter: Meter
    session: Session
    recovery: Recovery


def recall(run_dir: RunDir, manifest: Manifest, limit: int, *, repair: bool) -> History:
    """Read the run directory back. Raises `RunDirError` for a damaged line.

    The run is about the first `limit` rows, and about what was sent before under a larger limit.
    """
    meter = Meter(limit)
    sessions = session_starts(run_dir.journal)
    meter.restarts = sessions[1:]
    recovery = recover(run_dir, manifest.rows, meter.recall, repair=repair)
    sample = last_sample(run_dir.metrics)
    meter.recall_counters(sample)
    meter.accepted += len(recovery.open)
    done_beyond = recovery.done.count - recovery.done.count_below(limit)
    meter.total = limit + done_beyond + sum(row >= limit for row in recovery.open)
    session = Session(manifest.name, manifest.created, _number(sample, "wall_s"), _number(sample, "cpu_s"))
    session.rows = manifest.rows
    session.continued = max(len(sessions) - 1, 0)
    return History(meter=meter, session=session, recovery=recovery)


def _number(sample: dict[str, Any], key: str) -> float:
    value = sample.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
