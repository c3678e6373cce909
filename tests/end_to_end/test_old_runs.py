"""Run directories of version 0.1.0 are continued, cancelled and reported by this version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.old_runs import KEY, NAMES, ROWS, copy_run
from tests.processes import Shell

OUTSTANDING = {"run-0.1.0a": 3, "run-0.1.0a-workers": 5}
"""Jobs that each run in background mode left at the service."""
PAID = {"run-0.1.0a": ROWS + 3, "run-0.1.0a-workers": ROWS, "run-0.1.0a-batch": ROWS}
"""Jobs that the service has made in the end: one for each row, and one more for each row that was retried."""
QUICK = ("--set", "simulator.exchange_s=0", "--set", "simulator.latency={type: constant, mean_s: 0.1}")
AGE_S = 60.0
"""Age of a run: young enough that its idempotency keys are still honoured."""


@pytest.fixture
def old_shell(shell: Shell) -> Shell:
    shell.environ["SAIL_API_KEY"] = KEY
    return shell


def copy_here(shell: Shell, name: str) -> Path:
    """Copy a run to the place where its command looks for it, and return its config."""
    run_dir = copy_run(name, shell.cwd / "runs", AGE_S)
    return Path(shutil.copy(run_dir.config, shell.cwd / "config.yaml"))


def service_jobs(shell: Shell, name: str) -> list[Any]:
    """Return what the simulator remembers of the jobs that it accepted."""
    lines = (shell.cwd / f"runs/{name}/simulator.jsonl").read_bytes().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == "accepted"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_command_continues_an_old_run_and_each_row_ends_once(old_shell: Shell, name: str) -> None:
    config = copy_here(old_shell, name)
    before = {line["row"]: line for line in old_shell.results(name)}
    assert "would be continued" in old_shell("check", config).stdout
    done = old_shell("run", config, *QUICK)

    assert done.returncode in (0, 1), done.stderr
    assert f"continuing runs/{name}: {len(before)} done, " in done.stderr
    statuses = old_shell.statuses(name)
    assert statuses.total() == ROWS
    assert set(statuses) <= {"completed", "failed"}
    after = {line["row"]: line for line in old_shell.results(name)}
    assert {row: after[row] for row in before} == before, "results from before stay as they are"
    assert len(service_jobs(old_shell, name)) == PAID[name]
    summary = old_shell.summary(name)
    assert summary["run"]["status"] == "complete"
    assert summary["requests"]["total"] == ROWS
    assert old_shell("run", config).returncode == done.returncode
    assert len(service_jobs(old_shell, name)) == PAID[name]


def test_an_old_run_is_continued_by_another_number_of_workers(old_shell: Shell) -> None:
    name = "run-0.1.0a-workers"
    config = copy_here(old_shell, name)
    done = old_shell("run", config, "--workers", "1")
    assert done.returncode == 0, done.stderr
    old_shell.assert_each_row_once(ROWS, name)


@pytest.mark.parametrize("name", OUTSTANDING)
def test_outstanding_jobs_of_an_old_run_are_cancelled(old_shell: Shell, name: str) -> None:
    copy_here(old_shell, name)
    before = old_shell.statuses(name).total()
    done = old_shell("cancel", f"runs/{name}")

    assert done.returncode == 0, done.stderr
    ended = old_shell.statuses(name).total() - before
    assert ended == OUTSTANDING[name]
    assert "0 unknown to the service, 0 still open" in done.stdout
    assert "1 requests were sent without an acknowledgement" in done.stderr


def test_open_batches_of_an_old_run_are_counted(old_shell: Shell) -> None:
    copy_here(old_shell, "run-0.1.0a-batch")
    done = old_shell("cancel", "runs/run-0.1.0a-batch")
    assert done.returncode == 1
    assert done.stdout == "3 requests in 2 batches are open\n"
    assert "5 requests were sent without an acknowledgement" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_an_old_run_is_reported_as_it_was_left(old_shell: Shell, name: str) -> None:
    copy_here(old_shell, name)
    summary = json.loads(old_shell("report", f"runs/{name}", "--json").stdout)

    assert summary["run"]["status"] == "stopped"
    assert summary["requests"]["total"] == ROWS
    done = len(old_shell.results(name))
    ended = sum(summary["requests"][status] for status in ("completed", "failed"))
    assert ended == done
    assert summary["requests"]["open"] == {**OUTSTANDING, "run-0.1.0a-batch": 3}[name]
    assert f" {name} |" in old_shell("report", f"runs/{name}", f"runs/{name}").stdout
