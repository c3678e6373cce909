"""A run that was stopped, killed, or is complete, and then the same command again."""

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.processes import Shell, Simulator


def slow_config(shell, simulator, **sections):
    return shell.config(
        **{
            "target": {"base_url": simulator.base_url},
            "source": {"count": 600},
            "submit": {"max_in_flight": 100},
            **sections,
        }
    )


def assert_each_row_once(shell, count, name="t"):
    results = shell.results(name)
    assert Counter(line["row"] for line in results) == dict.fromkeys(range(count), 1)
    assert {line["status"] for line in results} == {"completed"}


SLOW = {"type": "lognormal", "mean_s": 0.4, "sigma": 0.5}


def test_killed_half_way_and_run_again_each_row_ends_once_and_ran_once(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    config = slow_config(shell, simulator)
    for least in (100, 250):
        process = shell.start("run", config)
        shell.wait_for(process, shell.has_results(least))
        process.kill()
        process.communicate()
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert "continuing" in done.stderr
    assert_each_row_once(shell, 600)
    stats = simulator.stats()
    assert stats["executed"] == stats["accepted"] == 600
    assert shell.summary()["run"]["continued"] >= 1
    assert shell.summary()["requests"]["completed"] == 600


def test_killed_on_the_embedded_simulator_it_continues_and_leaves_no_process(shell: Shell) -> None:
    config = shell.config(
        target={"base_url": "simulator"},
        source={"count": 400},
        submit={"max_in_flight": 60},
        simulator={"latency": SLOW},
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(60))
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert children
    process.kill()
    process.communicate()
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once(shell, 400)
    for child in children:
        assert subprocess.run(["kill", "-0", child], capture_output=True).returncode != 0


def test_a_finished_run_run_again_sends_nothing(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url})
    assert shell("run", config).returncode == 0
    posts = simulator.stats()["posts"]
    before = (shell.cwd / "runs/t/results.jsonl").read_bytes()
    again = shell("run", config)
    assert again.returncode == 0
    assert "nothing was sent" in again.stderr
    assert simulator.stats()["posts"] == posts
    assert (shell.cwd / "runs/t/results.jsonl").read_bytes() == before


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_signal_drains_writes_the_summary_and_tells_how_to_continue(
    simulate: Callable[..., Simulator], shell: Shell, signum: Any, code: int
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.5})
    config = slow_config(shell, simulator)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    process.send_signal(signum)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "continue with the same command" in errors
    summary = shell.summary()
    assert summary["run"]["status"] == "interrupted"
    assert summary["requests"]["open"] == 0, "drained: constant latency is shorter than drain_s"
    assert summary["requests"]["completed"] == len(shell.results()) < 600
    assert summary["requests"]["unsent"] == 600 - len(shell.results())
    assert shell("run", config).returncode == 0
    assert_each_row_once(shell, 600)
    assert simulator.stats()["executed"] == 600


def test_what_is_open_when_the_drain_ends_is_told_and_continued_without_a_new_post(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "bimodal", "fast_s": 0.05, "slow_s": 4, "slow_share": 0.3})
    config = slow_config(shell, simulator, limits={"drain_s": 0.2}, source={"count": 100})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(30))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    still_open = shell.summary()["requests"]["open"]
    assert still_open > 0
    assert f"{still_open:,} jobs are still open at the service" in errors
    assert shell("run", config).returncode == 0
    assert_each_row_once(shell, 100)
    stats = simulator.stats()
    assert stats["posts"] == stats["executed"] == 100


def test_a_second_signal_stops_at_once_and_loses_nothing(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "bimodal", "fast_s": 0.05, "slow_s": 3, "slow_share": 0.3})
    config = slow_config(shell, simulator, limits={"drain_s": 1000}, source={"count": 100})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(30))
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while "nothing more is sent" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert shell("run", config).returncode == 0
    assert_each_row_once(shell, 100)
    assert simulator.stats()["executed"] == 100


def test_a_limit_sends_the_first_rows_and_a_later_run_the_rest(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 60})
    assert shell("run", config, "--limit", "15").returncode == 0
    assert sorted(line["row"] for line in shell.results()) == list(range(15))
    assert shell("run", config, "--limit", "7").returncode == 0
    assert simulator.stats()["posts"] == 15
    assert shell("run", config).returncode == 0
    assert_each_row_once(shell, 60)
    assert simulator.stats()["posts"] == 60


def test_new_sets_the_earlier_run_aside_whole(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 10})
    assert shell("run", config).returncode == 0
    first = (shell.cwd / "runs/t/results.jsonl").read_bytes()
    again = shell("run", config, "--new")
    assert again.returncode == 0
    assert "t.1" in again.stderr
    assert (shell.cwd / "runs/t.1/results.jsonl").read_bytes() == first
    assert_each_row_once(shell, 10)
    assert simulator.stats()["executed"] == 20


def test_on_existing_fail_refuses_and_sends_nothing(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, sink={"on_existing": "fail"})
    assert shell("run", config).returncode == 0
    posts = simulator.stats()["posts"]
    assert shell("run", config).returncode == 2
    assert simulator.stats()["posts"] == posts


def test_two_processes_cannot_run_the_same_run(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 1.0})
    config = slow_config(shell, simulator)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(1))
    second = shell("run", config)
    assert second.returncode == 2
    assert f"pid {process.pid}" in second.stderr
    process.kill()
    process.communicate()


def test_what_changed_is_named_and_nothing_is_sent(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    base = {"target": {"base_url": simulator.base_url}, "source": {"count": 5}}
    assert shell("run", shell.config(**base)).returncode == 0
    posts = simulator.stats()["posts"]
    changes = {
        "the input (source)": {"source": {"count": 5, "prompt": "Other {{ i }}"}},
        "request": {"request": {"model": "other"}},
        "target.idempotency_header": {"target": {**base["target"], "idempotency_header": None}},
    }
    for name, change in changes.items():
        done = shell("run", shell.config(**{**base, **change}))
        assert done.returncode == 2
        assert f"changed since this run began: {name}" in done.stderr
        assert "--new" in done.stderr
    shell.environ["SAIL_API_KEY"] = "another-key-entirely"
    done = shell("run", shell.config(**base))
    assert done.returncode == 2
    assert "the API key (SAIL_API_KEY)" in done.stderr
    assert simulator.stats()["posts"] == posts
    del shell.environ["SAIL_API_KEY"]
    changed_limits = shell.config(**base, submit={"concurrency": 3}, limits={"drain_s": 1})
    assert shell("run", changed_limits).returncode == 0


def test_a_report_on_a_killed_run_counts_what_is_there(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    config = slow_config(shell, simulator)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    live = json.loads(shell("report", "runs/t", "--json").stdout)
    assert live["run"]["status"] == "running"
    process.kill()
    process.communicate()
    summary = json.loads(shell("report", "runs/t", "--json").stdout)
    assert summary["run"]["status"] == "stopped"
    assert summary["requests"]["completed"] == len(shell.results())
    assert summary["requests"]["total"] == 600


@pytest.mark.parametrize("hours", [2, 24])
def test_jobs_found_done_after_hours_do_not_teach_that_jobs_take_hours(
    simulate: Callable[..., Simulator], shell: Shell, hours: int
) -> None:
    """Fresh jobs would not be looked at for as long; the run would seem to stand still."""
    simulator = simulate(latency={"type": "constant", "mean_s": 0.3})
    config = slow_config(shell, simulator, source={"count": 120}, submit={"max_in_flight": 40})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(40))
    process.kill()
    process.communicate()
    while simulator.stats()["running"]:
        time.sleep(0.02)
    for name in ("journal.jsonl", "results.jsonl"):
        path = shell.cwd / "runs/t" / name
        path.write_text("".join(earlier(line, hours * 3600) for line in path.read_text().splitlines()))
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once(shell, 120)


def earlier(line, seconds):
    """A line of a log with its times moved back."""
    entry = json.loads(line)
    for times in (entry, entry.get("timing", {})):
        for name in {"at", "due", "sent", "accepted", "pending", "done"} & times.keys():
            times[name] = times[name] and times[name] - seconds
    return json.dumps(entry) + "\n"
