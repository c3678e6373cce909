"""Real worker processes, of which any may be killed or get a signal: one run to the user all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.processes import NEVER, SPREAD, Shell, Simulate, constant


def exists(pid: int) -> bool:
    """Return whether a process runs, other than one that has ended and was not waited for."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return status.strip()[:1] not in ("", "Z")


def test_workers_share_the_rows_and_the_limits(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=SPREAD, exchange_s=0.005)
    config = shell.shared_config(
        simulator,
        workers=3,
        source={"count": 1000},
        submit={"concurrency": 20, "max_in_flight": 201},
        poll={"concurrency": 10},
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(1000)
    files = sorted((shell.cwd / "runs/t").glob("results-*.jsonl"))
    assert len(files) == 3
    assert min(path.read_bytes().count(b"\n") for path in files) > 1000 / 3 / 3
    stats, summary = simulator.stats(), shell.summary()
    assert stats["executed"] == stats["accepted"] == stats["posts"] == 1000
    assert stats["peak_posts"] <= 20
    assert stats["peak_gets"] <= 10
    assert stats["peak_open"] <= 201
    assert {name: count for name, count in summary["requests"].items() if count} == {
        "total": 1000,
        "completed": 1000,
    }
    assert summary["polls"]["total"] == stats["gets"]
    assert summary["tokens"]["output"] == sum(
        line["response"]["body"]["usage"]["output_tokens"] for line in shell.results()
    )
    assert summary["client"]["cpu_s"] > 0
    assert "results are in runs/t/results*.jsonl" in done.stderr
    metrics = (shell.cwd / "runs/t/metrics.jsonl").read_bytes().splitlines()
    last = json.loads(metrics[-1])
    assert (last["done"], last["in_flight"]) == (1000, 0)


def test_workers_do_not_outlive_a_coordinator_that_is_killed(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=SPREAD)
    config = shell.shared_config(simulator)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    workers = shell.workers_of(process)
    assert len(workers) == 2
    process.kill()
    shell.end(process)
    done = shell("run", config)  # which waits for them
    assert done.returncode == 0, done.stderr
    assert not any(map(exists, workers))
    shell.assert_each_row_once(600)
    assert simulator.stats()["executed"] == 600


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_worker_that_is_killed_is_followed_by_another_that_takes_over_its_rows(
    simulate: Simulate, shell: Shell, header: str | None
) -> None:
    simulator = simulate(latency=SPREAD)
    rows = ({"custom_id": f"id-{i}", "input": f"text {i} " + "x" * 300} for i in range(1500))
    (shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = shell.shared_config(
        simulator,
        workers=2,
        target={"base_url": simulator.base_url, "idempotency_header": header},
        source={"count": None, "type": "jsonl", "path": "rows.jsonl"},
        limits={"max_outage_s": 0.5},
    )
    process = shell.start("run", config)
    for least in (200, 500):
        shell.wait_for(process, shell.has_results(least))
        os.kill(shell.workers_of(process)[-1], signal.SIGKILL)
    done = shell.end(process)
    assert done.stderr.count("died (SIGKILL): another process continues with its rows") == 2
    statuses, stats = shell.statuses(), simulator.stats()
    assert {line["custom_id"]: line["row"] for line in shell.results()} == {f"id-{i}": i for i in range(1500)}
    if header:
        assert done.returncode == 0, done.stderr
        assert statuses == {"completed": 1500}
        assert stats["executed"] == stats["accepted"] == 1500
    else:  # what was being sent is not known, and not paid for twice
        assert statuses["completed"] >= 1500 - 2 * 20
        assert stats["executed"] <= 1500
        assert set(statuses) <= {"completed", "uncertain"}
    requests = shell.summary()["requests"]
    assert {name: count for name, count in requests.items() if count} == {"total": 1500, **statuses}


def test_a_first_signal_drains_all_workers(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=constant(0.5))
    config = shell.shared_config(simulator)
    done = shell.run_until(shell.has_results(50), "run", config, signum=signal.SIGINT)
    assert done.returncode == 130, done.stderr
    assert done.stderr.count("nothing more is sent") == 1
    summary, stats = shell.summary(), simulator.stats()
    assert summary["run"]["status"] == "interrupted"
    assert summary["requests"]["open"] == 0
    assert summary["requests"]["completed"] == len(shell.results()) == stats["accepted"]
    assert stats["accepted"] < 600
    done = shell("run", config, "--workers", "1")
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(600)


def test_a_signal_to_all_processes_is_one_signal_and_a_second_ends_all_at_once(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(latency=NEVER)
    config = shell.shared_config(simulator, limits={"drain_s": 3000})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(100))
    workers = shell.workers_of(process)
    for pid in (*workers, process.pid):
        os.kill(pid, signal.SIGTERM)
    shell.wait_for_line("waiting at most 3000 s for", process)
    process.send_signal(signal.SIGTERM)
    done = shell.end(process)
    assert done.returncode == 143, done.stderr
    assert "100 jobs are still open" in done.stderr
    assert shell.summary()["requests"]["open"] == 100
    assert not any(map(exists, workers))
    cancelled = shell("cancel", "runs/t")
    assert cancelled.returncode == 0, cancelled.stderr
    assert shell.statuses() == {"cancelled": 100}


def test_a_killed_run_is_reported_and_continued_by_another_number_of_workers(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(latency=SPREAD)
    config = shell.shared_config(simulator)
    for workers, least in ((3, 60), (1, 150), (2, 300)):
        shell.stop_after(least, "run", config, "--workers", str(workers))
        report = json.loads(shell("report", "runs/t", "--json").stdout)
        assert report["requests"]["completed"] == len(shell.results()) >= least
    done = shell("run", config, "--workers", "1")
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(600)
    stats = simulator.stats()
    assert stats["executed"] == stats["accepted"] == 600
    assert shell.summary()["run"]["continued"] == 3


def test_modules_in_the_current_directory_are_not_taken_for_pythons_own(
    simulate: Simulate, shell: Shell
) -> None:
    (shell.cwd / "queue.py").write_text("raise SystemExit('not this one')")
    config = shell.shared_config(simulate(), source={"count": 20})
    command = [str(Path(sys.executable).with_name("runner")), "run", str(config)]
    done = subprocess.run(command, cwd=shell.cwd, env=shell.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(20), 1)
