"""Tests of the coverage measurement: what a process and its forks execute is in the report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib.coverage.__main__ import floor_percent, merge, read_record
from scripts.lib.coverage.recorder import DIRECTORY, start_recording

ROOT = Path(__file__).resolve().parents[2]
RETRY = "runner/policy/retry.py"
PROGRAM = """
import os
from scripts.lib.coverage.recorder import start_recording
recorder = start_recording()
from runner.policy.retry import backoff_s
recorder.save()
if os.fork():
    os.wait()
else:
    backoff_s(1, 0.5, 60.0, 0.5)
"""


def test_lines_and_branches_of_a_process_and_of_its_forks_are_merged(tmp_path: Path) -> None:
    env = {**os.environ, DIRECTORY: str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=env, check=True, timeout=30)
    records = sorted(tmp_path.iterdir())
    assert len(records) == 2

    report = merge(records)
    retry = report["files"][RETRY]
    for record in records:
        (executed,) = [places for name, places in read_record(record).items() if name.endswith(RETRY)]
        assert executed & {*retry["executed_lines"]} < {*retry["executed_lines"]}
    assert retry["missing_lines"]  # wait_s was not called
    assert "runner/cli.py" in report["files"]  # never imported, and counted all the same
    assert 0 < report["summary"]["percent_covered"] < 5


def test_nothing_is_recorded_unless_the_environment_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DIRECTORY, raising=False)
    assert start_recording() is None


def test_the_floor_is_in_pyproject() -> None:
    assert floor_percent(ROOT / "pyproject.toml") == 95
