"""Several worker processes: one run to the user, whatever happens to any of them."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SLOW = {"type": "lognormal", "mean_s": 0.4, "sigma": 0.5}
SIGNALS = pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def config_of(runner, simulator, workers=2, **sections):
    return runner.config(
        **{
            "target": {"base_url": simulator.base_url},
            "source": {"count": 600},
            "submit": {"max_in_flight": 100},
            "engine": {"workers": workers},
            **sections,
        }
    )


def assert_each_row_once(runner, count):
    results = runner.results()
    assert Counter(line["row"] for line in results) == dict.fromkeys(range(count), 1)
    assert {line["status"] for line in results} == {"completed"}


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def rows_of_each(runner):
    files = sorted((runner.cwd / "runs/t").glob("results-*.jsonl"))
    return [path.read_bytes().count(b"\n") for path in files]


def test_rows_are_shared_out_and_each_ends_once(simulate, runner):
    simulator = simulate(latency=SLOW, exchange_s=0.005)
    config = config_of(
        runner,
        simulator,
        workers=3,
        source={"count": 2000},
        submit={"concurrency": 20, "max_in_flight": 301},
        poll={"concurrency": 10},
    )
    done = runner("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once(runner, 2000)
    assert len(rows_of_each(runner)) == 3
    assert min(rows_of_each(runner)) > 2000 / 3 / 3
    account, summary = simulator.account(), runner.summary()
    assert account["executed"] == account["accepted"] == account["posts"] == 2000
    assert account["peak_posts"] <= 20
    assert account["peak_gets"] <= 10
    assert account["peak_open"] <= 301
    assert summary["requests"] == {
        "total": 2000, "completed": 2000, "incomplete": 0, "failed": 0, "cancelled": 0, "expired": 0,
        "rejected": 0, "uncertain": 0, "open": 0, "unsent": 0,
    }  # fmt: skip
    assert summary["polls"]["total"] == account["gets"]
    assert summary["tokens"]["output"] == sum(
        line["response"]["body"]["usage"]["output_tokens"] for line in runner.results()
    )
    assert summary["client"]["cpu_s"] > 0
    assert "results are in runs/t/results*.jsonl" in done.stderr


def test_latencies_of_all_workers_are_in_the_summary(simulate, runner):
    simulator = simulate(latency={"type": "constant", "mean_s": 0.3})
    assert runner("run", config_of(runner, simulator)).returncode == 0
    told = runner.summary()["latency_s"]
    exact = sorted(line["timing"]["done"] - line["timing"]["due"] for line in runner.results())
    assert told["completion"]["p50"] == pytest.approx(exact[len(exact) // 2], rel=0.01)
    assert told["completion"]["max"] == pytest.approx(exact[-1], rel=0.01)
    assert told["completion"]["mean"] == pytest.approx(sum(exact) / len(exact), rel=0.001)
    metrics = [json.loads(line) for line in (runner.cwd / "runs/t/metrics.jsonl").read_bytes().splitlines()]
    assert metrics[-1]["done"] == 600
    assert metrics[-1]["in_flight"] == 0


def test_continued_with_another_number_of_workers_each_time(simulate, runner):
    simulator = simulate(latency=SLOW)
    config = config_of(runner, simulator)
    for workers, least in ((3, 60), (1, 150), (2, 300), (4, 400)):
        process = runner.start("run", config, "--workers", str(workers))
        runner.wait_for(process, runner.has_results(least))
        process.kill()
        process.communicate()
    done = runner("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once(runner, 600)
    account = simulator.account()
    assert account["executed"] == account["accepted"] == 600
    assert runner.summary()["run"]["continued"] == 4


def test_workers_do_not_outlive_a_main_process_that_is_killed(simulate, runner):
    simulator = simulate(latency=SLOW)
    config = config_of(runner, simulator)
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_results(50))
    workers = runner.workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    done = runner("run", config)  # which waits for them
    assert done.returncode == 0, done.stderr
    assert not any(map(is_there, workers))
    assert_each_row_once(runner, 600)
    assert simulator.account()["executed"] == 600


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_worker_that_is_killed_is_followed_by_another_that_takes_over_its_rows(simulate, runner, header):
    simulator = simulate(latency=SLOW)
    config = config_of(
        runner,
        simulator,
        workers=3,
        target={"base_url": simulator.base_url, "idempotency_header": header},
        source={"count": 1500},
        limits={"max_outage_s": 0.5},
    )
    process = runner.start("run", config)
    for least in (200, 500):
        runner.wait_for(process, runner.has_results(least))
        os.kill(runner.workers_of(process)[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert "died (SIGKILL): another process goes on with its rows" in errors
    statuses = Counter(line["status"] for line in runner.results())
    assert Counter(line["row"] for line in runner.results()) == dict.fromkeys(range(1500), 1), errors
    account, summary = simulator.account(), runner.summary()
    if header:
        assert process.returncode == 0, errors
        assert statuses == {"completed": 1500}
        assert account["executed"] == account["accepted"] == 1500
    else:  # what was under way is not known, and not paid for twice
        assert statuses["completed"] >= 1500 - 2 * 20
        assert account["executed"] <= 1500
        assert set(statuses) <= {"completed", "uncertain"}
    assert {k: v for k, v in summary["requests"].items() if v} == {"total": 1500, **statuses}


def test_when_workers_die_again_and_again_the_run_stops_and_can_be_continued(simulate, runner):
    simulator = simulate(latency={"type": "constant", "mean_s": 1.0})
    config = config_of(runner, simulator)
    process = runner.start("run", config)
    killed = set()
    while process.poll() is None:
        for pid in set(runner.workers_of(process)) - killed:
            if (runner.cwd / "runs/t/journal-0.jsonl").exists():
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    _, errors = process.communicate()
    assert process.returncode == 3, errors
    assert "as 3 did before it" in errors
    assert "continue with the same command" in errors
    assert "Traceback" not in errors
    done = runner("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once(runner, 600)
    assert simulator.account()["executed"] == 600


@SIGNALS
def test_a_first_signal_drains_all_workers(simulate, runner, signum, code):
    simulator = simulate(latency={"type": "constant", "mean_s": 0.5})
    config = config_of(runner, simulator)
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_results(50))
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.count("no more is sent") == 1
    summary, account = runner.summary(), simulator.account()
    assert summary["run"]["status"] == "interrupted"
    assert summary["requests"]["open"] == 0
    assert summary["requests"]["completed"] == len(runner.results()) == account["accepted"]
    assert account["accepted"] < 600
    done = runner("run", config, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert_each_row_once(runner, 600)


def test_a_second_signal_ends_all_workers_at_once_and_tells_what_is_open(simulate, runner):
    simulator = simulate(latency={"type": "constant", "mean_s": 3000})
    config = config_of(runner, simulator, limits={"drain_s": 3000})
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_accepted(100))
    workers = runner.workers_of(process)
    process.send_signal(signal.SIGINT)
    assert "waiting at most 3000 s for" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "100 jobs are still open" in errors
    assert runner.summary()["requests"]["open"] == 100
    assert not any(map(is_there, workers))


def test_a_signal_to_all_processes_is_one_signal(simulate, runner):
    simulator = simulate(latency={"type": "constant", "mean_s": 0.5})
    config = config_of(runner, simulator)
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_results(50))
    for pid in (*runner.workers_of(process), process.pid):
        os.kill(pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert runner.summary()["requests"]["open"] == 0


def test_the_first_request_goes_alone_and_a_refused_key_is_told_once(simulate, runner):
    simulator = simulate(api_key_env="HOME")  # which is another key
    done = runner("run", config_of(runner, simulator, workers=4))
    assert done.returncode == 3
    assert done.stderr.count("the service refuses the API key") == 1
    assert simulator.account()["posts"] == 1


def test_when_every_row_is_rejected_ten_are_asked_in_all(simulate, runner):
    simulator = simulate(faults={"post": {"400": 1.0}})
    done = runner("run", config_of(runner, simulator, workers=3))
    assert done.returncode == 3, done.stderr
    assert "the first 10 requests were all rejected" in done.stderr
    assert simulator.account()["posts"] == 10


def test_nobody_listening_is_told_once(runner, simulate):
    simulator = simulate()
    simulator.kill()
    done = runner("run", config_of(runner, simulator, workers=3))
    assert done.returncode == 3
    assert done.stderr.count("no Responses API answers there") == 1
    assert not runner.results()


def test_a_service_that_goes_away_ends_all_and_the_run_goes_on_when_it_is_back(simulate, runner, tmp_path):
    state = tmp_path / "state.jsonl"
    first = simulate(latency=SLOW, state=state)
    config = config_of(runner, first, limits={"max_outage_s": 1.0, "drain_s": 1.0})
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_results(50))
    first.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert errors.count("nothing but failures") == 1
    simulator = simulate(latency=SLOW, state=state, port=first.port)
    done = runner("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once(runner, 600)
    assert Counter(job["executed"] for job in simulator.jobs()) == {1: 600}


def test_a_worker_with_nothing_but_rows_that_always_fail_is_no_outage(stub, runner):
    def submit(handler):
        if json.loads(handler.body)["input"].startswith(("TASK 0:", "TASK 1:")):
            handler.say(500, {"error": {"message": "cannot digest it"}})
        else:
            handler.accept()

    with stub(submit=submit, status=lambda job: "completed") as (base_url, _):
        config = runner.config(
            target={"base_url": base_url},
            source={"count": 120},
            submit={"concurrency": 2, "max_in_flight": 4, "retry": {"max_attempts": 4}},
            engine={"workers": 2},
            limits={"max_outage_s": 1.0},
        )
        done = runner("run", config)
    assert done.returncode == 1, done.stderr
    assert {line["row"]: line["status"] for line in runner.results()} == {
        row: "rejected" if row < 2 else "completed" for row in range(120)
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_block_of_bad_rows_is_no_reason_to_stop_once_the_service_was_met(stub, runner, workers):
    def submit(handler):
        row = int(json.loads(handler.body)["input"].split("TASK ")[1].split(":")[0])
        if 20 <= row < 100:
            handler.say(400, {"error": {"message": "bad row"}})
        else:
            handler.accept()

    with stub(submit=submit, status=lambda job: "completed") as (base_url, _):
        config = runner.config(
            target={"base_url": base_url}, source={"count": 160}, engine={"workers": workers}
        )
        done = runner("run", config)
    assert done.returncode == 1, done.stderr
    assert Counter(line["status"] for line in runner.results()) == {"completed": 80, "rejected": 80}


def test_a_worker_that_dies_in_a_drain_is_not_waited_for(simulate, runner):
    simulator = simulate(latency={"type": "constant", "mean_s": 1.5})
    config = config_of(runner, simulator, source={"count": 250}, limits={"drain_s": 3000})
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_accepted(100))
    workers = runner.workers_of(process)
    process.send_signal(signal.SIGINT)
    assert "no more is sent" in process.stderr.readline()
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    requests = runner.summary()["requests"]
    assert requests["completed"] == len(runner.results())
    assert requests["open"] == 100 - requests["completed"] > 0
    assert runner("run", config).returncode == 0
    assert_each_row_once(runner, 250)


def test_a_worker_that_hangs_at_the_end_is_killed_and_its_results_count(simulate, runner):
    simulator = simulate(latency=SLOW)
    config = config_of(runner, simulator, source={"count": 5000}, limits={"drain_s": 3000})
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_results(300))
    process.send_signal(signal.SIGINT)
    assert "no more is sent" in process.stderr.readline()
    os.kill(runner.workers_of(process)[0], signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "never retrieved" not in errors
    assert runner.summary()["requests"]["completed"] == len(runner.results())


def test_modules_in_the_current_directory_are_not_taken_for_pythons_own(simulate, runner):
    (runner.cwd / "queue.py").write_text("raise SystemExit('not this one')")
    simulator = simulate()
    config = config_of(runner, simulator, source={"count": 20})
    command = [str(Path(sys.executable).with_name("runner")), "run", str(config)]
    done = subprocess.run(command, cwd=runner.cwd, env=runner.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rows_that_wait_for_a_place_with_one_worker_go_to_another(stub, runner):
    """The first jobs never end until all others have: whoever has them has no place for its other rows."""
    accepted = []

    def submit(handler):
        accepted.append(json.loads(handler.body)["input"].split(":")[0])
        handler.accept()

    def status(job):
        number = int(job.removeprefix("job-"))
        return "completed" if number > 3 or len(accepted) == 100 else "in_progress"

    with stub(submit=submit, status=status) as (base_url, server):
        config = runner.config(
            target={"base_url": base_url},
            source={"count": 100},
            submit={"concurrency": 2, "max_in_flight": 6},
            engine={"workers": 2},
        )
        done = runner("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once(runner, 100)
    assert server.posts == 100


def test_a_budget_is_one_for_all_workers(simulate, runner):
    simulator = simulate(latency=SLOW, output_tokens=100)
    config = config_of(
        runner,
        simulator,
        workers=3,
        prices={"output": 10_000},
        limits={"max_cost_usd": 200},
    )
    done = runner("run", config)
    assert done.returncode == 3, done.stderr
    assert "limits.max_cost_usd" in done.stderr
    assert 150 <= runner.summary()["cost_usd"] <= 220
    assert runner.summary()["requests"]["open"] == 0


def test_failures_are_counted_over_all_workers(simulate, runner):
    simulator = simulate(latency=SLOW, outcomes={"failed": 1.0})
    config = config_of(runner, simulator, workers=3, limits={"max_failures": 40})
    done = runner("run", config)
    assert done.returncode == 3, done.stderr
    assert "limits.max_failures 40" in done.stderr
    assert 40 <= runner.summary()["requests"]["failed"] < 400


def test_rows_that_ended_badly_are_tried_again_by_other_workers(simulate, runner):
    simulator = simulate(latency=SLOW, outcomes={"failed": 0.3})
    config = config_of(runner, simulator, workers=3)
    assert runner("run", config).returncode == 1
    failed = sum(line["status"] == "failed" for line in runner.results())
    assert 60 < failed < 300
    assert runner("run", config, "--retry", "failed", "--workers", "2").returncode == 1
    results = runner.results()
    assert Counter(line["row"] for line in results) == dict.fromkeys(range(600), 1)
    assert sum(line.get("epoch", 0) for line in results) == failed
    assert sum(line["status"] == "failed" for line in results) < failed
    superseded = (runner.cwd / "runs/t/superseded.jsonl").read_bytes().count(b"\n")
    assert superseded == failed


def test_open_jobs_of_all_workers_are_cancelled(simulate, runner):
    simulator = simulate(latency={"type": "constant", "mean_s": 3000})
    config = config_of(runner, simulator, limits={"drain_s": 0.1})
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_accepted(100))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    done = runner("cancel", "runs/t")
    assert done.returncode == 0, done.stderr
    assert Counter(line["status"] for line in runner.results())["cancelled"] == 100


def test_rows_of_a_file_are_found_by_each_worker(simulate, runner):
    simulator = simulate(latency=SLOW)
    rows = ({"custom_id": f"id-{i}", "input": f"text {i} " + "x" * 300} for i in range(3000))
    (runner.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = config_of(
        runner,
        simulator,
        workers=3,
        source={"count": None, "type": "jsonl", "path": "rows.jsonl"},
        submit={"max_in_flight": 1000},
    )
    process = runner.start("run", config)
    runner.wait_for(process, runner.has_results(700))
    os.kill(runner.workers_of(process)[0], signal.SIGKILL)  # the next one reads from the start
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert_each_row_once(runner, 3000)
    assert {line["custom_id"]: line["row"] for line in runner.results()} == {
        f"id-{i}": i for i in range(3000)
    }
    assert simulator.account()["executed"] == 3000


def test_a_killed_run_is_reported_from_the_files_of_all_workers(simulate, runner):
    simulator = simulate(latency=SLOW)
    runner.stop_after(100, "run", config_of(runner, simulator, workers=3))
    told = json.loads(runner("report", "runs/t", "--json").stdout)
    assert told["requests"]["completed"] == len(runner.results()) >= 100


def test_more_workers_than_posts_at_once_are_refused(runner):
    config = runner.config(target={"base_url": "simulator"}, engine={"workers": 30})
    done = runner("run", config)
    assert done.returncode == 2
    assert "engine.workers (30) is more than submit.concurrency (20)" in done.stderr


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_with_faults_every_row_still_completes_exactly_once(simulate, runner, transport):
    kinds = ("429", "500", "502", "529", "html", "cut", "reset", "lost")
    simulator = simulate(
        faults={"post": dict.fromkeys(kinds, 0.01), "get": dict.fromkeys(kinds, 0.01)}, fault_s=0.1
    )
    config = config_of(
        runner,
        simulator,
        target={"base_url": simulator.base_url, "transport": transport, "timeout_s": 1.0},
        source={"count": 400},
    )
    done = runner("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once(runner, 400)
    assert simulator.account()["executed"] == 400
    retries = runner.summary()["retries"]
    assert sum(retries["submit"].values()) > 0
    assert sum(retries["poll"].values()) > 0
