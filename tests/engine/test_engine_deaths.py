"""Several worker processes, of which any may die, and signals to any: one story all the same."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Shell, Simulator

SLOW = {"type": "lognormal", "mean_s": 0.4, "sigma": 0.5}
SIGNALS = pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_workers_do_not_outlive_a_main_process_that_is_killed(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    config = shell.shared_config(simulator)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    workers = shell.workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    done = shell("run", config)  # which waits for them
    assert done.returncode == 0, done.stderr
    assert not any(map(is_there, workers))
    shell.assert_each_row_once(600)
    assert simulator.stats()["executed"] == 600


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_worker_that_is_killed_is_followed_by_another_that_takes_over_its_rows(
    simulate: Callable[..., Simulator], shell: Shell, header: str | None
) -> None:
    simulator = simulate(latency=SLOW)
    config = shell.shared_config(
        simulator,
        workers=3,
        target={"base_url": simulator.base_url, "idempotency_header": header},
        source={"count": 1500},
        limits={"max_outage_s": 0.5},
    )
    process = shell.start("run", config)
    for least in (200, 500):
        shell.wait_for(process, shell.has_results(least))
        os.kill(shell.workers_of(process)[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert "died (SIGKILL): another process continues with its rows" in errors
    statuses = Counter(line["status"] for line in shell.results())
    assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(1500), 1), errors
    stats, summary = simulator.stats(), shell.summary()
    if header:
        assert process.returncode == 0, errors
        assert statuses == {"completed": 1500}
        assert stats["executed"] == stats["accepted"] == 1500
    else:  # what was under way is not known, and not paid for twice
        assert statuses["completed"] >= 1500 - 2 * 20
        assert stats["executed"] <= 1500
        assert set(statuses) <= {"completed", "uncertain"}
    assert {k: v for k, v in summary["requests"].items() if v} == {"total": 1500, **statuses}


def test_when_workers_die_again_and_again_the_run_stops_and_can_be_continued(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 1.0})
    config = shell.shared_config(simulator)
    process = shell.start("run", config)
    killed = set()
    while process.poll() is None:
        for pid in set(shell.workers_of(process)) - killed:
            if (shell.cwd / "runs/t/journal-0.jsonl").exists():
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    _, errors = process.communicate()
    assert process.returncode == 3, errors
    assert "as 3 did before it" in errors
    assert "continue with the same command" in errors
    assert "Traceback" not in errors
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(600)
    assert simulator.stats()["executed"] == 600


@SIGNALS
def test_a_first_signal_drains_all_workers(
    simulate: Callable[..., Simulator], shell: Shell, signum: Any, code: Any
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.5})
    config = shell.shared_config(simulator)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.count("nothing more is sent") == 1
    summary, stats = shell.summary(), simulator.stats()
    assert summary["run"]["status"] == "interrupted"
    assert summary["requests"]["open"] == 0
    assert summary["requests"]["completed"] == len(shell.results()) == stats["accepted"]
    assert stats["accepted"] < 600
    done = shell("run", config, "--workers", "1")
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(600)


def test_a_second_signal_ends_all_workers_at_once_and_tells_what_is_open(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 3000})
    config = shell.shared_config(simulator, limits={"drain_s": 3000})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(100))
    workers = shell.workers_of(process)
    process.send_signal(signal.SIGINT)
    assert "waiting at most 3000 s for" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "100 jobs are still open" in errors
    assert shell.summary()["requests"]["open"] == 100
    assert not any(map(is_there, workers))


def test_a_signal_to_all_processes_is_one_signal(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.5})
    config = shell.shared_config(simulator)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    for pid in (*shell.workers_of(process), process.pid):
        os.kill(pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert shell.summary()["requests"]["open"] == 0


def test_a_worker_that_dies_in_a_drain_is_not_waited_for(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 1.5})
    config = shell.shared_config(simulator, source={"count": 250}, limits={"drain_s": 3000})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(100))
    workers = shell.workers_of(process)
    process.send_signal(signal.SIGINT)
    assert "nothing more is sent" in process.stderr.readline()
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    requests = shell.summary()["requests"]
    assert requests["completed"] == len(shell.results())
    assert requests["open"] == 100 - requests["completed"] > 0
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(250)


def test_a_worker_that_hangs_at_the_end_is_killed_and_its_results_count(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    config = shell.shared_config(simulator, source={"count": 5000}, limits={"drain_s": 3000})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(300))
    process.send_signal(signal.SIGINT)
    assert "nothing more is sent" in process.stderr.readline()
    os.kill(shell.workers_of(process)[0], signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "never retrieved" not in errors
    assert shell.summary()["requests"]["completed"] == len(shell.results())
