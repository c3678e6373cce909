"""Run directories as a run leaves them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.config import RunConfig
from runner.measure.history import recall
from runner.measure.summary import summarise
from runner.measure.vitals import Vitals
from runner.records import Reply, Result, Timing
from runner.source import Survey
from runner.store import Acceptance, Intent, Journal, Results, RunDir, SessionStart


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunDir]:
    """Ten rows: `done` completed, `accepted` more at the service; with a summary, or killed."""

    def make_run(name: str = "first", *, done: int = 7, accepted: int = 2, summary: bool = True) -> RunDir:
        run_dir = RunDir(tmp_path / name)
        run_dir.path.mkdir()
        config = RunConfig.model_validate({"name": name, "request": {"model": "m"}})
        manifest = run_dir.create(config, Survey(rows=10, fingerprint="f"), "key")
        journal, results = Journal(run_dir.journal), Results(run_dir.results)
        journal.write(SessionStart(at=100.0, number=0))
        for row in range(done + accepted):
            journal.write(Intent(row=row, custom_id=f"row-{row}", key="k", due=100.0, at=100.5))
            journal.write(Acceptance(row=row, job=f"resp_{row}", kind="m", attempts=1, at=101.0))
        for row in range(done):
            body = b'{"id": "resp_%d", "usage": {"input_tokens": 10, "output_tokens": 20}}' % row
            results.write(
                Result(
                    custom_id=f"row-{row}",
                    row=row,
                    status="completed",
                    response=Reply(status_code=200, request_id=None, body=msgspec.Raw(body)),
                    error=None,
                    timing=Timing(due=100.0, sent=100.5, accepted=101.0, pending=104.0, done=105.0),
                    attempts=1,
                    polls=3,
                )
            )
        journal.log.close()
        results.log.close()
        run_dir.metrics.write_bytes(
            b'{"wall_s": 20.0, "cpu_s": 0.5, "retries": {"submit": {"429": 3}, "poll": {}},'
            b'"wire": {"requests": 35, "sent_bytes": 7000, "received_bytes": 14700}}\n'
        )
        if summary:
            history = recall(run_dir, manifest, manifest.rows)
            history.meter.open = len(history.recovery.outstanding)
            status: Any = "interrupted" if accepted else "complete"
            whole = summarise(history.meter, history.session, status, None, Vitals())
            run_dir.summary.write_bytes(msgspec.json.encode(whole))
            newest = max(path.stat().st_mtime_ns for path in run_dir.path.iterdir())
            os.utime(run_dir.summary, ns=(newest, newest))
        return run_dir

    return make_run
