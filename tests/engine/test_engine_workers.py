"""Several worker processes: one run to the user, with one set of limits."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Shell, Simulator

SLOW = {"type": "lognormal", "mean_s": 0.4, "sigma": 0.5}


def rows_of_each(shell):
    files = sorted((shell.cwd / "runs/t").glob("results-*.jsonl"))
    return [path.read_bytes().count(b"\n") for path in files]


def test_rows_are_shared_out_and_each_ends_once(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(latency=SLOW, exchange_s=0.005)
    config = shell.shared_config(
        simulator,
        workers=3,
        source={"count": 2000},
        submit={"concurrency": 20, "max_in_flight": 301},
        poll={"concurrency": 10},
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(2000)
    assert len(rows_of_each(shell)) == 3
    assert min(rows_of_each(shell)) > 2000 / 3 / 3
    stats, summary = simulator.stats(), shell.summary()
    assert stats["executed"] == stats["accepted"] == stats["posts"] == 2000
    assert stats["peak_posts"] <= 20
    assert stats["peak_gets"] <= 10
    assert stats["peak_open"] <= 301
    assert summary["requests"] == {
        "total": 2000, "completed": 2000, "incomplete": 0, "failed": 0, "cancelled": 0, "expired": 0,
        "rejected": 0, "uncertain": 0, "open": 0, "unsent": 0,
    }  # fmt: skip
    assert summary["polls"]["total"] == stats["gets"]
    assert summary["tokens"]["output"] == sum(
        line["response"]["body"]["usage"]["output_tokens"] for line in shell.results()
    )
    assert summary["client"]["cpu_s"] > 0
    assert "results are in runs/t/results*.jsonl" in done.stderr


def test_latencies_of_all_workers_are_in_the_summary(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.3})
    assert shell("run", shell.shared_config(simulator)).returncode == 0
    told = shell.summary()["latency_s"]
    exact = sorted(line["timing"]["done"] - line["timing"]["due"] for line in shell.results())
    assert told["completion"]["p50"] == pytest.approx(exact[len(exact) // 2], rel=0.01)
    assert told["completion"]["max"] == pytest.approx(exact[-1], rel=0.01)
    assert told["completion"]["mean"] == pytest.approx(sum(exact) / len(exact), rel=0.001)
    metrics = [json.loads(line) for line in (shell.cwd / "runs/t/metrics.jsonl").read_bytes().splitlines()]
    assert metrics[-1]["done"] == 600
    assert metrics[-1]["in_flight"] == 0


def test_continued_with_another_number_of_workers_each_time(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    config = shell.shared_config(simulator)
    for workers, least in ((3, 60), (1, 150), (2, 300), (4, 400)):
        process = shell.start("run", config, "--workers", str(workers))
        shell.wait_for(process, shell.has_results(least))
        process.kill()
        process.communicate()
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(600)
    stats = simulator.stats()
    assert stats["executed"] == stats["accepted"] == 600
    assert shell.summary()["run"]["continued"] == 4


def test_the_first_request_goes_alone_and_a_refused_key_is_told_once(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(api_key_env="HOME")  # which is another key
    done = shell("run", shell.shared_config(simulator, workers=4))
    assert done.returncode == 3
    assert done.stderr.count("the service refuses the API key") == 1
    assert simulator.stats()["posts"] == 1


def test_when_every_row_is_rejected_ten_are_asked_in_all(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(faults={"post": {"400": 1.0}})
    done = shell("run", shell.shared_config(simulator, workers=3))
    assert done.returncode == 3, done.stderr
    assert "the first 10 requests were all rejected" in done.stderr
    assert simulator.stats()["posts"] == 10


def test_nobody_listening_is_told_once(shell: Shell, simulate: Callable[..., Simulator]) -> None:
    simulator = simulate()
    simulator.kill()
    done = shell("run", shell.shared_config(simulator, workers=3))
    assert done.returncode == 3
    assert done.stderr.count("no Responses API answers there") == 1
    assert not shell.results()


def test_a_service_that_goes_away_ends_all_and_the_run_goes_on_when_it_is_back(
    simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path
) -> None:
    state = tmp_path / "state.jsonl"
    first = simulate(latency=SLOW, state=state)
    config = shell.shared_config(first, limits={"max_outage_s": 1.0, "drain_s": 1.0})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    first.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert errors.count("nothing but failures") == 1
    simulator = simulate(latency=SLOW, state=state, port=first.port)
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(600)
    assert Counter(job["executed"] for job in simulator.jobs()) == {1: 600}


def test_a_worker_with_nothing_but_rows_that_always_fail_is_no_outage(
    stub: Callable[..., Any], shell: Shell
) -> None:
    def submit(handler):
        if json.loads(handler.body)["input"].startswith(("TASK 0:", "TASK 1:")):
            handler.say(500, {"error": {"message": "cannot digest it"}})
        else:
            handler.accept()

    with stub(submit=submit, status=lambda job: "completed") as (base_url, _):
        config = shell.config(
            target={"base_url": base_url},
            source={"count": 120},
            submit={
                "concurrency": 2,
                "max_in_flight": 4,
                "retry": {"max_attempts": 4, "base_s": 0.02, "cap_s": 0.2},
            },
            engine={"workers": 2},
            limits={"max_outage_s": 1.0},
        )
        done = shell("run", config)
    assert done.returncode == 1, done.stderr
    assert {line["row"]: line["status"] for line in shell.results()} == {
        row: "rejected" if row < 2 else "completed" for row in range(120)
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_block_of_bad_rows_is_no_reason_to_stop_once_the_service_was_met(
    stub: Callable[..., Any], shell: Shell, workers: int
) -> None:
    def submit(handler):
        row = int(json.loads(handler.body)["input"].split("TASK ")[1].split(":")[0])
        if 20 <= row < 100:
            handler.say(400, {"error": {"message": "bad row"}})
        else:
            handler.accept()

    with stub(submit=submit, status=lambda job: "completed") as (base_url, _):
        config = shell.config(
            target={"base_url": base_url}, source={"count": 160}, engine={"workers": workers}
        )
        done = shell("run", config)
    assert done.returncode == 1, done.stderr
    assert Counter(line["status"] for line in shell.results()) == {"completed": 80, "rejected": 80}


def test_modules_in_the_current_directory_are_not_taken_for_pythons_own(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    (shell.cwd / "queue.py").write_text("raise SystemExit('not this one')")
    simulator = simulate()
    config = shell.shared_config(simulator, source={"count": 20})
    command = [str(Path(sys.executable).with_name("runner")), "run", str(config)]
    done = subprocess.run(command, cwd=shell.cwd, env=shell.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rows_that_wait_for_a_place_with_one_worker_go_to_another(
    stub: Callable[..., Any], shell: Shell
) -> None:
    """The first jobs never end until all others have: whoever has them has no place for its other rows."""
    accepted = []

    def submit(handler):
        accepted.append(json.loads(handler.body)["input"].split(":")[0])
        handler.accept()

    def status(job):
        number = int(job.removeprefix("job-"))
        return "completed" if number > 3 or len(accepted) == 100 else "in_progress"

    with stub(submit=submit, status=status) as (base_url, server):
        config = shell.config(
            target={"base_url": base_url},
            source={"count": 100},
            submit={"concurrency": 2, "max_in_flight": 6},
            engine={"workers": 2},
        )
        done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(100)
    assert server.posts == 100


def test_a_budget_is_one_for_all_workers(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(latency=SLOW, output_tokens=100)
    config = shell.shared_config(
        simulator,
        workers=3,
        prices={"output": 10_000},
        limits={"max_cost_usd": 200},
    )
    done = shell("run", config)
    assert done.returncode == 3, done.stderr
    assert "limits.max_cost_usd" in done.stderr
    assert 150 <= shell.summary()["cost_usd"] <= 220
    assert shell.summary()["requests"]["open"] == 0


def test_failures_are_counted_over_all_workers(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(latency=SLOW, outcomes={"failed": 1.0})
    config = shell.shared_config(simulator, workers=3, limits={"max_failures": 40})
    done = shell("run", config)
    assert done.returncode == 3, done.stderr
    assert "limits.max_failures 40" in done.stderr
    assert 40 <= shell.summary()["requests"]["failed"] < 400


def test_rows_that_ended_badly_are_tried_again_by_other_workers(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW, outcomes={"failed": 0.3})
    config = shell.shared_config(simulator, workers=3)
    assert shell("run", config).returncode == 1
    failed = sum(line["status"] == "failed" for line in shell.results())
    assert 60 < failed < 300
    assert shell("run", config, "--retry", "failed", "--workers", "2").returncode == 1
    results = shell.results()
    assert Counter(line["row"] for line in results) == dict.fromkeys(range(600), 1)
    assert sum(line.get("epoch", 0) for line in results) == failed
    assert sum(line["status"] == "failed" for line in results) < failed
    superseded = (shell.cwd / "runs/t/superseded.jsonl").read_bytes().count(b"\n")
    assert superseded == failed


def test_open_jobs_of_all_workers_are_cancelled(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 3000})
    config = shell.shared_config(simulator, limits={"drain_s": 0.1})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(100))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    done = shell("cancel", "runs/t")
    assert done.returncode == 0, done.stderr
    assert Counter(line["status"] for line in shell.results())["cancelled"] == 100


def test_rows_of_a_file_are_found_by_each_worker(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(latency=SLOW)
    rows = ({"custom_id": f"id-{i}", "input": f"text {i} " + "x" * 300} for i in range(3000))
    (shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = shell.shared_config(
        simulator,
        workers=3,
        source={"count": None, "type": "jsonl", "path": "rows.jsonl"},
        submit={"max_in_flight": 1000},
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(700))
    os.kill(shell.workers_of(process)[0], signal.SIGKILL)  # the next one reads from the start
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    shell.assert_each_row_once(3000)
    assert {line["custom_id"]: line["row"] for line in shell.results()} == {f"id-{i}": i for i in range(3000)}
    assert simulator.stats()["executed"] == 3000


def test_a_killed_run_is_reported_from_the_files_of_all_workers(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    shell.stop_after(100, "run", shell.shared_config(simulator, workers=3))
    told = json.loads(shell("report", "runs/t", "--json").stdout)
    assert told["requests"]["completed"] == len(shell.results()) >= 100


def test_more_workers_than_posts_at_once_are_refused(shell: Shell) -> None:
    config = shell.config(target={"base_url": "simulator"}, engine={"workers": 30})
    done = shell("run", config)
    assert done.returncode == 2
    assert "engine.workers (30) is more than submit.concurrency (20)" in done.stderr


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_with_faults_every_row_still_completes_exactly_once(
    simulate: Callable[..., Simulator], shell: Shell, transport: str
) -> None:
    kinds = ("429", "500", "502", "529", "html", "cut", "reset", "lost")
    simulator = simulate(
        faults={"post": dict.fromkeys(kinds, 0.01), "get": dict.fromkeys(kinds, 0.01)}, fault_s=0.1
    )
    config = shell.shared_config(
        simulator,
        target={"base_url": simulator.base_url, "transport": transport, "timeout_s": 1.0},
        source={"count": 400},
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(400)
    assert simulator.stats()["executed"] == 400
    retries = shell.summary()["retries"]
    assert sum(retries["submit"].values()) > 0
    assert sum(retries["poll"].values()) > 0
