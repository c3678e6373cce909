"""What a hostile evening does to a run: signals, lost files, vanished readers, a service that says no."""

import json
import shlex
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Shell, Simulator


def test_a_hanging_poll_holds_up_neither_the_drain_nor_the_second_signal(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(faults={"get": {"hang": 1.0}})
    config = shell.config(
        target={"base_url": simulator.base_url, "timeout_s": 600},
        source={"count": 3},
        limits={"drain_s": 0.2},
    )
    process = shell.start("run", config)
    shell.wait_for(process, lambda: simulator.stats()["gets_now"] == 3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)  # far below timeout_s
    assert process.returncode == 130
    assert shell.summary()["requests"]["open"] == 3


def test_a_continued_run_sends_with_all_its_workers_again(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 3600}, exchange_s=0.2)
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 120},
        poll={"strategy": "fixed", "interval_s": 1000},
        limits={"drain_s": 0},
    )
    process = shell.start("run", config, "--limit", "5")
    shell.wait_for(process, lambda: simulator.stats()["accepted"] == 5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    process = shell.start("run", config)
    shell.wait_for(process, lambda: simulator.stats()["accepted"] == 120)
    process.kill()
    process.communicate()
    assert simulator.stats()["peak_posts"] == 20


@pytest.mark.parametrize("extra", [[], ["--new"]])
def test_a_run_whose_manifest_was_lost_is_not_taken_for_a_new_one(
    simulate: Callable[..., Simulator], shell: Shell, extra: Any
) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    assert shell("run", config).returncode == 0
    (shell.cwd / "runs/t/manifest.json").unlink()
    done = shell("run", config, *extra)
    if extra:
        assert done.returncode == 0
        assert (shell.cwd / "runs/t.1/results.jsonl").exists()
        assert simulator.stats()["executed"] == 10
    else:
        assert done.returncode == 2
        assert "manifest.json" in done.stderr
        assert simulator.stats()["executed"] == 5


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_a_signal_while_the_embedded_simulator_starts_is_not_lost(shell: Shell, transport: str) -> None:
    config = shell.config(
        target={"base_url": "simulator", "transport": transport},
        source={"count": 2000},
        submit={"max_in_flight": 5},
        simulator={"latency": {"type": "constant", "mean_s": 1}},
    )
    process = shell.start("run", config)
    shell.wait_for(process, (shell.cwd / "runs/t/manifest.json").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_reader_of_progress_that_goes_away_does_not_stop_the_run(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(
        latency={"type": "constant", "mean_s": 7}
    )  # a line of progress is due before the end
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 20})
    process = shell.start("run", config)
    process.stderr.close()
    assert process.wait(60) == 0
    process.stdout.close()
    assert shell.summary()["requests"]["completed"] == 20


def test_a_directory_that_vanishes_while_running_ends_with_3_and_not_with_2(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 1})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 40})
    process = shell.start("run", config)
    shell.wait_for(process, lambda: simulator.stats()["accepted"] == 40)
    shutil.rmtree(shell.cwd / "runs/t")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors


def test_an_input_file_that_vanishes_while_running_ends_with_3(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    for name in "ab":
        rows = (json.dumps({"input": f"{name}{i}"}) + "\n" for i in range(30_000))
        (shell.cwd / f"{name}.jsonl").write_text("".join(rows))
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"type": "jsonl", "path": "?.jsonl", "count": None},
        submit={"max_in_flight": 50},
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(1))
    (shell.cwd / "b.jsonl").unlink()
    shell.wait_for(process, shell.has_results(50))
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    done = shell("run", config)
    assert done.returncode == 2  # before anything is sent
    assert "b.jsonl" in done.stderr or "changed" in done.stderr


def polled(simulator, least):
    return lambda: simulator.stats()["gets"] >= least


def test_counts_add_up_over_sessions_and_absence_is_no_latency(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 8})
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 30}, limits={"drain_s": 0}
    )
    for stop, least in ((signal.SIGKILL, 60), (signal.SIGINT, 120)):
        process = shell.start("run", config)
        shell.wait_for(process, polled(simulator, least))
        process.send_signal(stop)
        process.communicate(timeout=30)
    polls_before = shell.summary()["polls"]["total"]
    done = shell("run", config)
    assert done.returncode == 0
    summary = shell.summary()
    assert summary["run"]["continued"] == 2
    assert summary["run"]["spanned_a_stop"] == 30
    assert summary["latency_s"]["completion"]["max"] is None
    assert "30 requests were in flight while it was stopped" in done.stdout
    assert polls_before < summary["polls"]["total"] <= simulator.stats()["gets"]
    assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(30), 1)


def test_a_wrong_key_mended_continues_without_new(
    simulate: Callable[..., Simulator], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMULATOR_KEY", "the-right-one-of-two")
    simulator = simulate(api_key_env="SIMULATOR_KEY")
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 10})
    assert shell("run", config).returncode == 3
    shell.environ["SAIL_API_KEY"] = "the-right-one-of-two"
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert "the run starts over with what changed" in done.stderr
    assert simulator.stats()["executed"] == 10


def test_a_service_that_rejects_everything_gets_ten_requests_and_not_all(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(models=["another"])
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 500})
    done = shell("run", config)
    assert done.returncode == 3
    assert done.stderr.count("the first request was rejected") == 1
    assert "the first 10 requests were all rejected" in done.stderr
    assert simulator.stats()["posts"] == 10


def test_polls_that_all_fail_give_up_no_job_even_past_its_deadline(
    simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path
) -> None:
    """A laptop wakes up after a weekend, without network: the jobs were done long ago."""
    state = tmp_path / "state.jsonl"
    simulator = simulate(latency={"type": "constant", "mean_s": 0.5}, state=state)
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 20},
        poll={"deadline_s": 1.0, "interval_s": 1000, "max_interval_s": 1000},
        limits={"max_outage_s": 3},
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(20))
    process.kill()
    process.communicate()
    simulator.kill()
    failing = simulate(state=state, port=simulator.port, faults={"get": {"500": 1.0}})
    done = shell("run", config)
    assert done.returncode == 3, done.stderr
    assert shell.results() == []
    failing.kill()
    simulate(state=state, port=simulator.port)
    assert shell("run", config).returncode == 0
    assert {line["status"] for line in shell.results()} == {"completed"}


def test_one_job_whose_polls_fail_while_others_are_answered_expires_at_its_deadline(
    shell: Shell, stub: Callable[..., Any]
) -> None:
    def look(handler, job):
        if job == "job-1":
            handler.say(500, {"error": {"message": "cannot be told"}})
        elif job == "job-2" and shell.has_results(9)():
            handler.end(job)
        else:
            handler.end(job, "in_progress" if job == "job-2" else "completed")

    with stub(look=look) as (base_url, _):
        config = shell.config(
            target={"base_url": base_url}, source={"count": 10}, poll={"deadline_s": 2, "max_interval_s": 0.1}
        )
        assert shell("run", config).returncode == 1
    by_status = Counter(line["status"] for line in shell.results())
    assert by_status["expired"] >= 1
    assert by_status["completed"] >= 8
    assert any(line["error"] and "cannot be told" in line["error"]["message"] for line in shell.results())


@pytest.mark.parametrize("page", [b"404 page not found", b"<html>404</html>"])
def test_a_proxy_that_knows_no_route_for_a_while_costs_no_row(
    shell: Shell, stub: Callable[..., Any], page: bytes
) -> None:
    away = []

    def route(then):
        def handle(handler, *job):
            if away:
                handler.say(404, page)
            else:
                then(handler, *job)

        return handle

    def post(handler):
        handler.accept()

    with stub(submit=route(post), look=route(lambda handler, job: handler.end(job))) as (base_url, server):
        config = shell.config(
            target={"base_url": base_url}, source={"count": 600}, submit={"max_in_flight": 20}
        )
        process = shell.start("run", config)
        shell.wait_for(process, shell.has_results(30))
        away.append(True)
        posts = server.posts
        shell.wait_for(process, lambda: server.posts >= posts + 10)
        away.clear()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert {line["status"] for line in shell.results()} == {"completed"}


def test_a_firewall_that_dislikes_one_prompt_rejects_that_row_alone(
    shell: Shell, stub: Callable[..., Any]
) -> None:
    def submit(handler):
        if b"number 7?" in handler.body:
            handler.say(403, b"<html>Forbidden</html>")
        else:
            handler.accept()

    with stub(submit=submit, status=lambda job: "completed") as (base_url, _):
        config = shell.config(target={"base_url": base_url}, source={"count": 60})
        done = shell("run", config, "--set", "limits.max_outage_s=5")
    assert done.returncode == 1, done.stderr
    assert {line["row"]: line["status"] for line in shell.results() if line["status"] != "completed"} == {
        7: "rejected"
    }


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_run_started_without_standard_streams_runs_all_the_same(
    simulate: Callable[..., Simulator], shell: Shell, closed: str
) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    command = " ".join(map(shlex.quote, shell.command("run", config)))
    done = subprocess.run(f"{command} {closed}", shell=True, cwd=shell.cwd, env=shell.env)  # noqa: S602 - a shell is what closes streams
    assert done.returncode == 0
    assert shell.summary()["requests"]["completed"] == 5


def test_a_summary_that_a_kill_prevented_is_written_when_there_is_nothing_left_to_do(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    assert shell("run", config).returncode == 0
    (shell.cwd / "runs/t/summary.json").unlink()
    assert shell("run", config).returncode == 0
    assert shell.summary()["run"]["status"] == "complete"


def test_a_report_that_nobody_can_take_does_not_change_the_exit_code(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            shell.command("run", config), cwd=shell.cwd, env=shell.env, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_an_old_terminal_encoding_does_not_break_the_report(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    shell.environ["PYTHONIOENCODING"] = "ascii"
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    assert shell("run", config).returncode == 0


DEFECT = """
from runner.background.poller import Poller
take_in, polls = Poller._take_in, []
async def defective(self, *arguments):
    polls.append(arguments)
    if len(polls) == 40:
        raise KeyError("nobody thought of this")
    await take_in(self, *arguments)
Poller._take_in = defective
"""


def test_a_defect_of_ours_ends_the_run_in_order_and_it_continues_without_loss(
    simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path
) -> None:
    simulator = simulate(exchange_s=0.05)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 300}, submit={"max_in_flight": 40}
    )
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(DEFECT)
    healthy = shell.env["PYTHONPATH"]
    shell.environ["PYTHONPATH"] = f"{site}:{healthy}"
    process = shell.start("run", config)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "a defect of this program: KeyError('nobody thought of this')" in errors
    assert "continue with the same command" in errors
    delivered = simulator.stats()["delivered"]
    assert len(shell.results()) >= delivered - 1, "only the answer that met the defect is asked for again"
    shell.environ["PYTHONPATH"] = healthy
    assert shell("run", config).returncode == 0
    assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(300), 1)
    assert simulator.stats()["executed"] == 300
