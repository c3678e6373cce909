"""The totals of a run from its files: to continue it, or to report one that was killed."""

from __future__ import annotations

from typing import Any

import msgspec

from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.measure.outputs.metrics_log import last_sample
from runner.measure.session_info import SessionInfo
from runner.store import (
    Manifest,
    Recovery,
    ResultHead,
    RunDir,
    read_marks,
    read_results,
    recover,
)


class History(msgspec.Struct):
    """What earlier sessions left; the next one continues from `meter`, `in_flight` and `session`."""

    meter: Meter
    in_flight: InFlight
    """Rows by where they stand, as the files show it."""
    session: SessionInfo
    recovery: Recovery
    next_session: int
    """Number of the next session, from 0."""


def recall(run_dir: RunDir, manifest: Manifest, limit: int) -> History:
    """Read the run directory, and change nothing. Raises `RunDirError` for a damaged line.

    The run consists of the first `limit` rows and of what was sent before under a larger limit.
    """
    meter = Meter()
    marks = read_marks(*run_dir.journals)
    sample = last_sample(run_dir.metrics)
    if marks.sessions:  # written by workers, so only once they have started
        meter.begin(_number(sample, "began") or marks.sessions[0])
    meter.restarts = marks.sessions[1:]
    archived = set()
    for line in read_results(run_dir.superseded):
        archived.add((line.row, line.epoch))
        meter.recall_superseded(line)

    def superseded(line: ResultHead) -> None:
        if (line.row, line.epoch) not in archived:
            meter.recall_superseded(line)

    recovery = recover(run_dir, manifest.rows, meter.recall, superseded, marks=marks)
    meter.recall_counters(sample)
    meter.counts.accepted += recovery.outstanding_count
    for job in recovery.outstanding.values():
        meter.recall_accepted(job.accepted)
    for batch in recovery.batches.values():
        if batch.accepted:
            meter.recall_accepted(batch.accepted.at)
    session = SessionInfo(
        manifest.name, manifest.created, _number(sample, "wall_s"), _number(sample, "cpu_s")
    )
    session.rows = manifest.rows
    session.continued = max(len(marks.sessions) - 1, 0)
    session.retried = len(marks.epochs)
    return History(
        meter=meter,
        in_flight=_in_flight(recovery, limit),
        session=session,
        recovery=recovery,
        next_session=marks.next_session,
    )


def _in_flight(recovery: Recovery, limit: int) -> InFlight:
    done_beyond = recovery.done.count - recovery.done.count_below(limit)
    claimed_beyond = sum(row >= limit for row in recovery.claimed_rows())
    return InFlight(
        total=limit + done_beyond + claimed_beyond,
        announced=recovery.unacknowledged_count,
        outstanding=recovery.outstanding_count,
        finished=recovery.done.count,
    )


def _number(sample: dict[str, Any], key: str) -> float:
    value = sample.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
