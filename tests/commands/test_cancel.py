"""`runner cancel`: what is open ends at the service, what arrives is kept, and it always comes back."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Shell, Simulator

FOR_EVER = {"type": "constant", "mean_s": 3600}
TRANSPORTS = pytest.mark.parametrize("transport", ["aiohttp", "openai"])


@pytest.fixture
def with_open_jobs(shell: Shell):
    """Accept `count` jobs at that address, kill the run, and return its config."""

    def start(base_url, count=30, **sections):
        target = {"base_url": base_url, **sections.pop("target", {})}
        poll = {"interval_s": 1000, "max_interval_s": 1000}
        config = shell.config(target=target, source={"count": count}, poll=poll, **sections)
        process = shell.start("run", config)
        shell.wait_for(process, shell.has_accepted(count))
        process.kill()
        process.communicate()
        return config

    return start


def statuses(shell):
    rows = [line["row"] for line in shell.results()]
    assert len(set(rows)) == len(rows)
    return Counter(line["status"] for line in shell.results())


@TRANSPORTS
def test_every_open_job_is_cancelled_and_has_its_line(
    simulate: Callable[..., Simulator], shell: Shell, with_open_jobs: Any, transport: Any
) -> None:
    simulator = simulate(latency=FOR_EVER)
    config = with_open_jobs(simulator.base_url, target={"transport": transport})
    done = shell("cancel", "runs/t")
    assert done.returncode == 0, done.stderr
    assert "30 cancelled, 0 had ended or ended meanwhile (results kept)" in done.stdout
    assert "0 still open" in done.stdout
    assert statuses(shell) == {"cancelled": 30}
    assert simulator.stats()["cancelled"] == 30
    summary = shell.summary()
    assert summary["run"]["status"] == "complete"
    assert summary["requests"]["cancelled"] == 30
    assert shell("cancel", "runs/t").stdout == "no job is open\n"
    assert shell("run", config).returncode == 1
    assert simulator.stats()["posts"] == 30
    assert json.loads(shell("report", "runs/t", "--json").stdout)["requests"] == summary["requests"]


def test_jobs_that_finished_before_they_were_asked_about_keep_their_results(
    simulate: Callable[..., Simulator], shell: Shell, with_open_jobs: Any
) -> None:
    simulator = simulate(
        latency={"type": "bimodal", "fast_s": 0.01, "slow_s": 3600, "slow_share": 0.5, "sigma": 0}
    )
    with_open_jobs(simulator.base_url, count=40)
    done = shell("cancel", "runs/t")
    assert done.returncode == 0, done.stderr
    counts = statuses(shell)
    assert counts.keys() == {"completed", "cancelled"}
    assert counts.total() == 40
    for line in shell.results():
        assert line["response"]["body"]["status"] == line["status"]
    assert simulator.stats()["delivered"] == 40


@TRANSPORTS
def test_a_service_that_cannot_cancel_is_asked_once_and_results_that_are_there_are_kept(
    simulate: Callable[..., Simulator], shell: Shell, with_open_jobs: Any, transport: Any
) -> None:
    simulator = simulate(latency=FOR_EVER, cancellation=False)
    config = with_open_jobs(simulator.base_url, target={"transport": transport})
    gets = simulator.stats()["gets"]
    done = shell("cancel", "runs/t")
    assert done.returncode == 1
    assert "30 still open" in done.stdout
    assert "not cancelled: " in done.stderr
    assert simulator.stats()["gets"] - gets == 1
    assert shell.results() == []
    assert shell.summary()["requests"]["open"] == 30
    process = shell.start("run", config)
    shell.wait_for(process, lambda: simulator.stats()["gets"] > gets + 1)
    process.kill()
    process.communicate()
    assert simulator.stats()["posts"] == 30, "they are followed as before"


def test_jobs_that_the_service_forgot_are_left_for_the_run_to_judge(
    simulate: Callable[..., Simulator], shell: Shell, with_open_jobs: Any
) -> None:
    simulator = simulate(latency=FOR_EVER)
    config = with_open_jobs(simulator.base_url, count=5)
    simulator.kill()
    simulate(port=simulator.port)
    done = shell("cancel", "runs/t")
    assert done.returncode == 0, done.stderr
    assert "5 unknown to the service, 0 still open" in done.stdout
    assert shell("run", config).returncode == 1
    assert statuses(shell) == {"uncertain": 5}


def test_rows_never_sent_are_not_sent_by_it_and_the_run_can_go_on(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=FOR_EVER)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 20}, submit={"max_in_flight": 5}
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(5))
    process.kill()
    process.communicate()
    assert shell("cancel", "runs/t").returncode == 0
    requests = shell.summary()["requests"]
    assert (requests["cancelled"], requests["unsent"], requests["open"]) == (5, 15, 0)
    simulator.kill()
    simulate(port=simulator.port)
    assert shell("run", config, "--retry", "cancelled").returncode == 0
    assert statuses(shell) == {"completed": 20}


def test_a_run_that_is_going_on_is_not_cancelled_behind_its_back(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=FOR_EVER)
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(5))
    done = shell("cancel", "runs/t")
    assert done.returncode == 2
    assert f"another process (pid {process.pid}) is running this run" in done.stderr
    assert simulator.stats()["cancelled"] == 0
    process.kill()
    process.communicate()


def test_another_key_is_refused_before_anything_is_asked(
    simulate: Callable[..., Simulator], shell: Shell, with_open_jobs: Any
) -> None:
    simulator = simulate(latency=FOR_EVER)
    with_open_jobs(simulator.base_url, count=5)
    shell.environ["SAIL_API_KEY"] = "another-key-entirely"
    done = shell("cancel", "runs/t")
    assert done.returncode == 2
    assert "the API key (SAIL_API_KEY)" in done.stderr
    assert simulator.stats()["cancelled"] == 0


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_what_is_no_run_directory_is_told(shell: Shell, path: str) -> None:
    done = shell("cancel", path)
    assert done.returncode == 2
    assert "is not a run directory" in done.stderr
    assert list(shell.cwd.iterdir()) == []


def test_an_embedded_simulator_is_started_for_it(shell: Shell) -> None:
    config = shell.config(
        target={"base_url": "simulator"}, source={"count": 10}, simulator={"latency": FOR_EVER}
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(10))
    process.kill()
    process.communicate()
    assert shell("cancel", "runs/t").returncode == 0
    assert statuses(shell) == {"cancelled": 10}


def test_with_faults_of_every_kind_each_job_still_ends_once(
    simulate: Callable[..., Simulator], shell: Shell, with_open_jobs: Any, tmp_path: Path
) -> None:
    state = tmp_path / "state.jsonl"
    simulator = simulate(latency=FOR_EVER, state=state)
    with_open_jobs(simulator.base_url, count=60)
    simulator.kill()
    faults = dict.fromkeys(("429", "500", "502", "html", "empty", "cut", "reset", "lost", "no_id"), 0.05)
    simulator = simulate(latency=FOR_EVER, state=state, port=simulator.port, faults={"get": faults})
    assert shell("cancel", "runs/t").returncode == 0
    assert statuses(shell) == {"cancelled": 60}


def test_a_job_that_completes_while_it_is_being_cancelled_keeps_its_result(
    shell: Shell, stub: Callable[..., Any], with_open_jobs: Any
) -> None:
    looks = Counter()

    def status(job):
        looks[job] += 1
        return "completed" if looks[job] > 1 else "in_progress"

    def cancel(handler, job):
        handler.say(200, {"id": job, "status": "in_progress"})

    with stub(cancel=cancel, status=status) as (base_url, _server):
        with_open_jobs(base_url, count=5)
        looks.clear()
        done = shell("cancel", "runs/t")
    assert done.returncode == 0, done.stderr
    assert "0 cancelled, 5 had ended or ended meanwhile (results kept)" in done.stdout
    assert statuses(shell) == {"completed": 5}


@pytest.mark.parametrize("code", [400, 409])
def test_one_job_that_cannot_be_cancelled_any_more_does_not_hold_up_the_others(
    shell: Shell, stub: Callable[..., Any], with_open_jobs: Any, code: int
) -> None:
    def cancel(handler, job):
        if job == "job-1":
            handler.say(code, {"error": {"message": "already being delivered"}})
        else:
            handler.say(200, {"id": job, "status": "cancelled"})

    with stub(cancel=cancel) as (base_url, _server):
        with_open_jobs(base_url, count=8)
        done = shell("cancel", "runs/t")
    assert done.returncode == 1
    assert "7 cancelled, 0 had ended" in done.stdout
    assert "0 unknown to the service, 1 still open" in done.stdout
    assert "already being delivered" in done.stderr
    assert statuses(shell) == {"cancelled": 7}


def test_it_ends_when_its_time_is_over(shell: Shell, stub: Callable[..., Any], with_open_jobs: Any) -> None:
    def never(handler, job):
        handler.say(200, {"id": job, "status": "in_progress"})

    with stub(cancel=never) as (base_url, server):
        with_open_jobs(base_url, count=5)
        done = shell("cancel", "runs/t", "--timeout", "1")
    assert done.returncode == 1
    assert "5 still open" in done.stdout
    assert server.asked == 5, "each was asked once"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_soon_and_keeps_what_came(
    shell: Shell, stub: Callable[..., Any], with_open_jobs: Any, signum: Any, code: int
) -> None:
    def cancel(handler, job):
        handler.say(200, {"id": job, "status": "cancelled" if job in ("job-1", "job-2") else "in_progress"})

    with stub(cancel=cancel) as (base_url, _server):
        with_open_jobs(base_url, count=5)
        process = shell.start("cancel", "runs/t", "--timeout", "3600")
        shell.wait_for(process, shell.has_results(2))
        process.send_signal(signum)
        said, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "2 cancelled" in said
    assert statuses(shell) == {"cancelled": 2}


def test_killed_while_cancelling_it_goes_on_from_where_it_was(
    shell: Shell, stub: Callable[..., Any], with_open_jobs: Any
) -> None:
    def cancel(handler, job):
        slow = server.asked > 3
        handler.say(200, {"id": job, "status": "in_progress" if slow and not ready else "cancelled"})

    ready = []
    with stub(cancel=cancel) as (base_url, server):
        with_open_jobs(base_url, count=8)
        process = shell.start("cancel", "runs/t", "--timeout", "3600")
        shell.wait_for(process, shell.has_results(3))
        process.kill()
        process.communicate()
        ready.append(True)
        assert shell("cancel", "runs/t").returncode == 0
    assert statuses(shell) == {"cancelled": 8}


def test_an_address_where_nobody_listens_any_more_ends_it_with_3(
    simulate: Callable[..., Simulator], shell: Shell, with_open_jobs: Any
) -> None:
    simulator = simulate(latency=FOR_EVER)
    with_open_jobs(simulator.base_url, count=5)
    simulator.kill()
    done = shell("cancel", "runs/t", "--timeout", "2")
    assert done.returncode == 3
    assert "5 still open" in done.stdout
