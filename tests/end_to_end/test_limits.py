"""Limits and outages: the run stops early with 3, burns no row, and the same command goes on."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Shell, Simulator

FOR_EVER = {"type": "constant", "mean_s": 3600}


def statuses(shell):
    rows = [line["row"] for line in shell.results()]
    assert len(set(rows)) == len(rows)
    return Counter(line["status"] for line in shell.results())


def test_after_max_s_nothing_more_is_sent_and_what_is_open_is_drained(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.3})
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 600},
        submit={"max_in_flight": 40},
        limits={"max_s": 1.5},
    )
    done = shell("run", config)
    assert done.returncode == 3, done.stderr
    assert "limits.max_s 1.5: the time limit is reached" in done.stderr
    assert "continue with the same command" in done.stderr
    requests = shell.summary()["requests"]
    assert requests["open"] == 0
    assert 0 < requests["completed"] < 600
    assert shell("run", config, "--set", "limits.max_s=null").returncode == 0
    assert statuses(shell) == {"completed": 600}
    assert simulator.stats()["executed"] == 600


def test_jobs_still_open_when_the_drain_of_a_limit_ends_are_told(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=FOR_EVER)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 5}, limits={"max_s": 1, "drain_s": 0.1}
    )
    done = shell("run", config)
    assert done.returncode == 3
    assert "5 jobs are still open at the service, and billable" in done.stderr


def test_too_many_failures_stop_the_run_and_a_continued_one_sends_nothing_until_told(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(outcomes={"failed": 1.0})
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 500},
        submit={"max_in_flight": 10},
        limits={"max_failures": 20},
    )
    done = shell("run", config)
    assert done.returncode == 3, done.stderr
    assert re.search(r"limits\.max_failures 20: \d+ requests did not end completed", done.stderr)
    assert 20 <= statuses(shell)["failed"] <= 30, "those in flight come on top"
    posts = simulator.stats()["posts"]
    assert shell("run", config).returncode == 3
    assert simulator.stats()["posts"] == posts
    assert shell("run", config, "--set", "limits.max_failures=null").returncode == 1
    assert simulator.stats()["executed"] == 500


def test_a_budget_is_kept_with_what_is_in_flight_counted_in(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.2})
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 1000},
        submit={"max_in_flight": 500},
        prices={"input": 1.0, "output": 10.0},
        limits={"max_cost_usd": 0.05},
    )
    done = shell("run", config)
    assert done.returncode == 3, done.stderr
    assert "limits.max_cost_usd 0.05" in done.stderr
    summary = shell.summary()
    assert 0.045 < summary["cost_usd"] < 0.055
    assert summary["requests"]["open"] == 0
    again = shell("run", config)
    assert again.returncode == 3
    assert simulator.stats()["posts"] == summary["requests"]["completed"]


def test_a_budget_without_prices_is_refused(shell: Shell) -> None:
    done = shell("run", shell.config(limits={"max_cost_usd": 1}))
    assert done.returncode == 2
    assert "limits.max_cost_usd needs prices" in done.stderr


@pytest.fixture
def interrupted_service(simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path):
    """A run of 300 rows is going on; its service can be restarted with other settings and its memory."""
    state = tmp_path / "state.jsonl"
    latency = {"type": "constant", "mean_s": 0.1}
    simulator = simulate(state=state, latency=latency)

    def config(**limits):
        return shell.config(
            target={"base_url": simulator.base_url, "timeout_s": 2},
            source={"count": 300},
            submit={"max_in_flight": 20, "retry": {"max_attempts": 8, "base_s": 0.02, "cap_s": 0.1}},
            limits=limits,
        )

    def restart(**settings):
        return simulate(state=state, port=simulator.port, latency=latency, **settings)

    return simulator, config, restart


@pytest.mark.parametrize("how", ["gone", "500", "502", "html", "hang", "reset"])
def test_an_outage_ends_the_run_and_uses_up_no_row(interrupted_service: Any, shell: Shell, how: str) -> None:
    simulator, make_config, restart = interrupted_service
    config = make_config(max_outage_s=1.5)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(30))
    simulator.kill()
    if how != "gone":
        simulator = restart(faults={"post": {how: 1.0}, "get": {how: 1.0}})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert errors.count("nothing but failures for") == 1
    assert "limits.max_outage_s" in errors
    assert statuses(shell).keys() == {"completed"}
    if how != "gone":
        simulator.kill()
    simulator = restart()
    done = shell("run", config, "--set", "limits.max_outage_s=15")
    assert done.returncode == 0, done.stderr
    assert statuses(shell) == {"completed": 300}
    assert simulator.stats()["executed"] == 300


def test_an_outage_shorter_than_the_limit_is_sat_out_with_few_requests(
    interrupted_service: Any, shell: Shell
) -> None:
    simulator, make_config, restart = interrupted_service
    process = shell.start("run", make_config(max_outage_s=20))
    shell.wait_for(process, shell.has_results(30))
    simulator.kill()
    down = restart(faults={"post": {"500": 1.0}, "get": {"500": 1.0}})
    shell.wait_for(process, lambda: exchanges(down) >= 2)
    down.kill()
    up = restart()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert statuses(shell) == {"completed": 300}
    assert up.stats()["executed"] == 300
    assert sum(line["attempts"] for line in shell.results()) < 300 + 8 + 20, "no wave after wave of POSTs"


def exchanges(simulator):
    stats = simulator.stats()
    return stats["posts"] + stats["gets"]


def test_while_posts_fail_and_polls_are_answered_the_run_goes_on(
    interrupted_service: Any, shell: Shell
) -> None:
    """One poison job, or a model without capacity, is no outage of the service."""
    simulator, make_config, restart = interrupted_service
    process = shell.start("run", make_config(max_outage_s=2))
    shell.wait_for(process, shell.has_results(30))
    simulator.kill()
    half = restart(faults={"post": {"500": 1.0}})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert shell.summary()["requests"]["open"] == 0, "what was accepted was brought home first"
    assert statuses(shell).keys() == {"completed"}
    assert half.stats()["delivered"] == half.stats()["accepted"]


def test_one_row_that_always_fails_is_rejected_and_does_not_hold_up_the_run(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(faults={"post": {"500": 0.5}}, seed=3)
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 40},
        submit={"retry": {"max_attempts": 2, "base_s": 0.01, "cap_s": 0.02}},
    )
    assert shell("run", config).returncode == 1
    assert set(statuses(shell)) == {"completed", "rejected"}


def test_refusals_as_too_many_end_the_run_too_when_nothing_else_comes_back(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(faults={"post": {"429": 1.0}})
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 50}, limits={"max_outage_s": 1}
    )
    done = shell("run", config)
    assert done.returncode == 3, done.stderr
    assert "nothing but failures for" in done.stderr
    assert not shell.results()


def test_a_report_of_a_run_that_hit_a_limit_says_stopped(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=FOR_EVER)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 5}, limits={"max_s": 1, "drain_s": 0}
    )
    assert shell("run", config).returncode == 3
    report = json.loads(shell("report", "runs/t", "--json").stdout)
    assert report["run"]["status"] == "stopped"


def test_a_budget_counts_what_was_paid_for_before_a_retry(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(outcomes={"incomplete": 1.0})
    prices = {"input": 0, "output": 1000.0}
    base = {"target": {"base_url": simulator.base_url}, "source": {"count": 30}, "prices": prices}
    assert shell("run", shell.config(**base)).returncode == 1
    spent = shell.summary()["cost_usd"]
    config = shell.config(**base, limits={"max_cost_usd": 1.2 * spent})
    assert shell("run", config, "--retry", "incomplete").returncode == 3
    assert shell.summary()["cost_usd"] < 1.3 * spent


def test_the_last_rows_sit_out_an_outage_that_is_shorter_than_the_limit(
    shell: Shell, stub: Callable[..., Any]
) -> None:
    down = []

    def submit(handler):
        if down and b"number 9?" in handler.body:
            down.append(True)
            handler.say(502, b"<html>Bad Gateway</html>") if len(down) < 16 else handler.accept()
        else:
            handler.accept()

    with stub(submit=submit, status=lambda job: "completed") as (base_url, _):
        down.append(True)
        config = shell.config(
            target={"base_url": base_url},
            source={"count": 10},
            submit={"concurrency": 1, "retry": {"max_attempts": 11, "base_s": 0.01, "cap_s": 0.05}},
        )
        done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert max(line["attempts"] for line in shell.results()) == 15


def test_a_row_that_is_alone_among_open_jobs_is_not_used_up_by_a_short_outage(
    shell: Shell, stub: Callable[..., Any]
) -> None:
    """With almost every place in flight taken, all tries of an outage fall to one row."""
    down = []

    def submit(handler):
        if down:
            handler.server.failed += 1
            handler.say(502, b"<html>Bad Gateway</html>")
        else:
            handler.accept()

    def look(handler, job):
        if down:
            handler.say(502, b"<html>Bad Gateway</html>")
        else:
            handler.end(job, "completed" if shell.has_accepted(20)() else "in_progress")

    with stub(submit=submit, look=look) as (base_url, server):
        server.failed = 0
        config = shell.config(
            target={"base_url": base_url},
            source={"count": 60},
            submit={"max_in_flight": 20, "retry": {"max_attempts": 4, "base_s": 0.01, "cap_s": 0.02}},
        )
        process = shell.start("run", config)
        shell.wait_for(process, shell.has_accepted(19))
        down.append(True)
        shell.wait_for(process, lambda: server.failed >= 5 or shell.has_accepted(20)())
        down.clear()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert statuses(shell) == {"completed": 60}


def test_rows_that_the_service_cannot_digest_do_not_keep_the_run_from_its_end(
    shell: Shell, stub: Callable[..., Any]
) -> None:
    def submit(handler):
        if b"number 7?" in handler.body or b"number 8?" in handler.body:
            handler.say(500, {"error": {"message": "cannot digest that"}})
        else:
            handler.accept()

    with stub(submit=submit, status=lambda job: "completed") as (base_url, _):
        config = shell.config(
            target={"base_url": base_url},
            source={"count": 20},
            submit={"retry": {"max_attempts": 8, "base_s": 0.01, "cap_s": 0.05}},
            limits={"max_outage_s": 3},
        )
        done = shell("run", config)
    assert done.returncode == 1, done.stderr
    assert statuses(shell) == {"completed": 18, "rejected": 2}
