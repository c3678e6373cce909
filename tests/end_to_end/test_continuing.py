"""A run that was killed, and then the same command again: each row ends once, and ran once."""

from __future__ import annotations

import json
import signal
import subprocess
import threading

import pytest

from tests.processes import NEVER, SPREAD, Shell, Simulate, constant
from tests.stub_service import PENDING, Exchange, stub_service

SHARED = {"source": {"count": 400}, "submit": {"max_in_flight": 80}}


def test_killed_half_way_and_run_again_each_row_ends_once_and_ran_once(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(latency=SPREAD)
    config = shell.config(target={"base_url": simulator.base_url}, **SHARED)
    for least in (60, 180):
        shell.stop_after(least, "run", config)
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert "continuing" in done.stderr
    shell.assert_each_row_once(400)
    stats = simulator.stats()
    assert stats["executed"] == stats["accepted"] == 400
    assert shell.summary()["run"]["continued"] == 2
    assert shell.summary()["requests"]["completed"] == 400


def test_killed_with_the_embedded_simulator_it_continues_and_leaves_no_process(shell: Shell) -> None:
    config = shell.config(target={"base_url": "simulator"}, simulator={"latency": SPREAD}, **SHARED)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(60))
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    (child,) = found.stdout.split()
    process.kill()
    shell.end(process)
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(400)
    assert subprocess.run(["kill", "-0", child], capture_output=True).returncode != 0


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_signal_drains_writes_the_summary_and_says_how_to_continue(
    simulate: Simulate, shell: Shell, signum: signal.Signals, code: int
) -> None:
    simulator = simulate(latency=constant(0.5))
    config = shell.config(target={"base_url": simulator.base_url}, **SHARED)
    done = shell.run_until(shell.has_results(50), "run", config, signum=signum)
    assert done.returncode == code, done.stderr
    assert "continue with the same command" in done.stderr
    summary = shell.summary()
    assert summary["run"]["status"] == "interrupted"
    assert summary["requests"]["open"] == 0, "jobs take less time than drain_s"
    assert summary["requests"]["completed"] == len(shell.results()) < 400
    assert summary["requests"]["unsent"] == 400 - len(shell.results())
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(400)
    assert simulator.stats()["executed"] == 400


def test_two_processes_cannot_work_on_the_same_run_and_a_report_says_that_it_is_running(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(latency={"type": "bimodal", "fast_s": 0.05, "slow_s": 3600, "slow_share": 0.5})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 60})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(10))
    for second in (shell("run", config), shell("cancel", "runs/t")):
        assert second.returncode == 2
        assert f"another process (pid {process.pid}) is running this run" in second.stderr
    assert json.loads(shell("report", "runs/t", "--json").stdout)["run"]["status"] == "running"
    process.kill()
    shell.end(process)
    summary = json.loads(shell("report", "runs/t", "--json").stdout)
    assert summary["run"]["status"] == "stopped"
    assert summary["requests"]["completed"] == len(shell.results())
    assert summary["requests"]["total"] == 60
    assert simulator.stats()["cancelled"] == 0


@pytest.mark.parametrize("choice", ["hold", "resend"])
def test_jobs_that_the_service_forgot_after_a_kill_are_uncertain_or_resent(
    simulate: Simulate, shell: Shell, choice: str
) -> None:
    simulator = simulate(latency=NEVER)
    submit = {"on_uncertain": choice}
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 30},
        submit=submit,
        limits={"max_outage_s": 3},
    )
    shell.run_until(shell.has_accepted(30), "run", config)
    simulator.kill()
    restarted = simulate(port=simulator.port)  # it lost its queue and its keys
    done = shell("run", config)
    if choice == "hold":
        assert done.returncode == 1
        assert shell.statuses() == {"uncertain": 30}
        assert restarted.stats()["posts"] == 0
        for line in shell.results():
            assert line["error"]["status_code"] == 404
            assert "accepted in an earlier session" in line["error"]["message"]
    else:
        assert done.returncode == 0, done.stderr
        shell.assert_each_row_once(30)
        assert restarted.stats()["executed"] == 30


def test_a_request_that_was_cut_off_by_a_kill_is_resent_under_its_key(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(faults={"post": {"hang": 1.0}})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 10})
    shell.run_until(lambda: simulator.stats()["posts"] == 1, "run", config)
    simulator.kill()
    restarted = simulate(port=simulator.port)
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(10)
    assert restarted.stats()["executed"] == 10


def test_a_retry_that_is_killed_continues_with_the_plain_command(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(outcomes={"failed": 0.3})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 60})
    assert shell("run", config).returncode == 1
    failed = {line["row"] for line in shell.results() if line["status"] == "failed"}
    shell.run_until(lambda: simulator.stats()["posts"] > 60, "run", config, "--retry", "failed")
    report = json.loads(shell("report", "runs/t", "--json").stdout)
    assert report["requests"]["total"] == 60
    shell("run", config)
    assert sum(shell.statuses().values()) == 60
    assert simulator.stats()["executed"] == 60 + len(failed)
    assert {line["row"] for line in shell.results() if line.get("epoch")} == failed


def test_a_cancellation_that_is_killed_continues_where_it_was(shell: Shell) -> None:
    is_quick = threading.Event()

    def cancel(exchange: Exchange, job: str) -> None:
        ends = is_quick.is_set() or exchange.service.cancellations <= 3
        exchange.report(job, "cancelled" if ends else PENDING)

    with stub_service(cancel=cancel) as service:
        config = shell.config(target={"base_url": service.base_url}, source={"count": 8})
        shell.run_until(shell.has_accepted(8), "run", config)
        shell.run_until(shell.has_results(3), "cancel", "runs/t")
        is_quick.set()
        assert shell("cancel", "runs/t").returncode == 0
    assert shell.statuses() == {"cancelled": 8}


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_what_is_open_after_a_kill_is_cancelled_despite_faults_of_every_kind(
    simulate: Simulate, shell: Shell, transport: str
) -> None:
    state = shell.cwd / "state.jsonl"
    simulator = simulate(latency=NEVER, state=state)
    target = {"base_url": simulator.base_url, "transport": transport}
    config = shell.config(target=target, source={"count": 40})
    shell.run_until(shell.has_accepted(40), "run", config)
    simulator.kill()
    faults = dict.fromkeys(("429", "500", "502", "html", "empty", "cut", "reset", "lost", "no_id"), 0.05)
    simulator = simulate(latency=NEVER, state=state, port=simulator.port, faults={"get": faults})
    done = shell("cancel", "runs/t")
    assert done.returncode == 0, done.stderr
    assert "40 cancelled" in done.stdout
    assert shell.statuses() == {"cancelled": 40}
    assert simulator.stats()["cancelled"] == 40
    assert json.loads(shell("report", "runs/t", "--json").stdout)["requests"] == shell.summary()["requests"]


def test_open_jobs_of_the_embedded_simulator_are_cancelled_by_one_that_is_started_for_it(
    shell: Shell,
) -> None:
    config = shell.config(
        target={"base_url": "simulator"}, source={"count": 10}, simulator={"latency": NEVER}
    )
    shell.run_until(shell.has_accepted(10), "run", config)
    assert shell("cancel", "runs/t").returncode == 0
    assert shell.statuses() == {"cancelled": 10}


def test_a_key_that_was_used_with_other_bytes_is_no_licence_to_send_again(
    simulate: Simulate, shell: Shell
) -> None:
    state = shell.cwd / "state.jsonl"
    simulator = simulate(state=state)
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    assert shell("run", config).returncode == 0
    simulator.kill()
    events = [json.loads(line) for line in state.read_bytes().splitlines()]
    accepted = [event for event in events if event["event"] == "accepted"]
    hashes = [event["sha256"] for event in accepted]
    for event, other in zip(accepted, hashes[1:] + hashes[:1], strict=True):
        event["sha256"] = other
    state.write_text("".join(json.dumps(event) + "\n" for event in events))
    journal = shell.cwd / "runs/t/journal.jsonl"
    kept = [line for line in journal.read_bytes().splitlines() if b'"accepted"' not in line]
    journal.write_bytes(b"\n".join(kept) + b"\n")
    (shell.cwd / "runs/t/results.jsonl").unlink()
    simulate(port=simulator.port, state=state)
    assert shell("run", config).returncode in (1, 3)
    assert set(shell.statuses()) == {"uncertain"}
    assert {line["error"]["type"] for line in shell.results()} == {"idempotency_error"}
