"""The totals of a run as its files tell them: for continuing it, and for reporting one that was killed."""

from __future__ import annotations

from typing import Any

import msgspec

from runner.measure.meter import Meter
from runner.measure.series import last_sample
from runner.measure.summary import Session
from runner.store import (
    ResultHead,
    Manifest,
    Recovery,
    RunDir,
    read_marks,
    read_results,
    recover,
)


class History(msgspec.Struct):
    """What earlier sessions left; `meter` and `session` go on from there."""

    meter: Meter
    session: Session
    recovery: Recovery
    next_session: int
    """The number of the session that goes on from there."""


def recall(run_dir: RunDir, manifest: Manifest, limit: int) -> History:
    """Read the run directory back, changing nothing. Raises `RunDirError` for a damaged line.

    The run is about the first `limit` rows, and about what was sent before under a larger limit.
    """
    meter = Meter(limit)
    marks = read_marks(*run_dir.journals)
    sample = last_sample(run_dir.metrics)
    if marks.sessions:  # which workers set, and only when they have started
        meter.begin(_number(sample, "began") or marks.sessions[0])
    meter.restarts = marks.sessions[1:]
    set_aside = set()
    for line in read_results(run_dir.superseded):
        set_aside.add((line.row, line.epoch))
        meter.recall_superseded(line)

    def superseded(line: ResultHead) -> None:
        if (line.row, line.epoch) not in set_aside:
            meter.recall_superseded(line)

    recovery = recover(run_dir, manifest.rows, meter.recall, superseded, marks=marks)
    meter.recall_counters(sample)
    meter.accepted += recovery.outstanding_count
    for job in recovery.outstanding.values():
        meter.milestones.accept(job.accepted)
    for batch in recovery.batches.values():
        if batch.accepted:
            meter.milestones.accept(batch.accepted.at)
    done_beyond = recovery.done.count - recovery.done.count_below(limit)
    meter.total = limit + done_beyond + sum(row >= limit for row in recovery.claimed_rows())
    session = Session(manifest.name, manifest.created, _number(sample, "wall_s"), _number(sample, "cpu_s"))
    session.rows = manifest.rows
    session.continued = max(len(marks.sessions) - 1, 0)
    session.retried = len(marks.epochs)
    return History(meter=meter, session=session, recovery=recovery, next_session=marks.next_session)


def _number(sample: dict[str, Any], key: str) -> float:
    value = sample.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
