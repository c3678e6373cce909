"""Run directories as a run leaves them, written without a run."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from runner.config import RunConfig
from runner.measure.history import recall
from runner.measure.summary import RunStatus, summarise, write_summary
from runner.measure.vitals import Vitals
from runner.records import Reply, Result, Timing
from runner.source import Survey
from runner.store import Acceptance, Intent, Journal, Results, RunDir, SessionStart

ROWS = 10
METRICS = (
    b'{"wall_s": 20.0, "cpu_s": 0.5, "retries": {"submit": {"429": 3}, "poll": {}},'
    b'"wire": {"requests": 35, "sent_bytes": 7000, "received_bytes": 14700}}\n'
)


def make_run(
    parent: Path, name: str = "first", *, done: int = 7, accepted: int = 2, summary: bool = True
) -> RunDir:
    """Make a run of ten rows: `done` completed, and `accepted` more outstanding.

    Without `summary` the run was killed.
    """
    run_dir = RunDir(parent / name)
    run_dir.path.mkdir()
    config = RunConfig.model_validate({"name": name, "request": {"model": "m"}})
    run_dir.create(config, Survey(rows=ROWS, fingerprint="f"), "key")
    journal, results = Journal(run_dir.journal), Results(run_dir.results)
    journal.write(SessionStart(at=100.0, number=0))
    for row in range(done + accepted):
        journal.write(
            Intent(row=row, custom_id=f"row-{row}", key="k", due=100.0, at=100.5),
            Acceptance(row=row, job=f"resp_{row}", kind="m", attempts=1, at=101.0),
        )
    results.write(*map(_result, range(done)))
    journal.log.close()
    results.log.close()
    run_dir.metrics.write_bytes(METRICS)
    if summary:
        _summarise(run_dir, "interrupted" if accepted else "complete", accepted)
    return run_dir


def make_newest(path: Path) -> None:
    """Give a file a later modification time than all others in its directory."""
    newest = max(other.stat().st_mtime_ns for other in path.parent.iterdir()) + 10**9
    os.utime(path, ns=(newest, newest))


def _result(row: int) -> Result:
    body = b'{"id": "resp_%d", "usage": {"input_tokens": 10, "output_tokens": 20}}' % row
    return Result(
        custom_id=f"row-{row}",
        row=row,
        status="completed",
        response=Reply(status_code=200, request_id=None, body=msgspec.Raw(body)),
        error=None,
        timing=Timing(due=100.0, sent=100.5, accepted=101.0, pending=104.0, done=105.0),
        attempts=1,
        polls=3,
    )


def _summarise(run_dir: RunDir, status: RunStatus, accepted: int) -> None:
    manifest = run_dir.read_manifest()
    history = recall(run_dir, manifest, manifest.rows)
    summary = summarise(history.meter, history.in_flight, history.session, status, None, Vitals())
    write_summary(run_dir.summary, summary)
    make_newest(run_dir.summary)
