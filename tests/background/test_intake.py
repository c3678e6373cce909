"""Rows that are made ready ahead of their POSTs: no trace of them is left where none was sent."""

import json
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from tests.processes import Shell, Simulator


def entries_of(shell):
    return [json.loads(line) for line in (shell.cwd / "runs/t/journal.jsonl").read_bytes().splitlines()]


def config_of(shell, simulator, **target):
    return shell.config(
        target={"base_url": simulator.base_url, "timeout_s": 60, **target},
        source={"count": 300},
        submit={"concurrency": 1},
        limits={"drain_s": 0.1},
    )


@pytest.mark.parametrize(("header", "ahead"), [("Idempotency-Key", 32), (None, 1)])
def test_intents_run_ahead_only_where_a_key_makes_that_harmless(
    simulate: Callable[..., Simulator], shell: Shell, header: str | None, ahead: int
) -> None:
    simulator = simulate(exchange_s=0.2)
    process = shell.start("run", config_of(shell, simulator, idempotency_header=header))
    shell.wait_for(process, shell.has_accepted(3))
    process.kill()
    process.communicate()
    events = Counter(entry["event"] for entry in entries_of(shell))
    assert events["accepted"] < events["intent"] <= events["accepted"] + ahead
    if header:
        assert events["intent"] > events["accepted"] + 5


def test_rows_that_were_ready_and_not_sent_are_as_if_never_taken(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(exchange_s=0.2)
    config = config_of(shell, simulator)
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(3))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "without an acknowledgement" not in errors
    refused = {entry["row"]: entry["cause"] for entry in entries_of(shell) if entry["event"] == "refused"}
    posted = simulator.stats()["posts"]
    intents = sum(entry["event"] == "intent" for entry in entries_of(shell))
    assert set(refused.values()) == {"unsent"}
    assert intents - len(refused) == posted
    again = shell("run", config, "--set", "submit.concurrency=20")
    assert again.returncode == 0, again.stderr
    assert "0 to be confirmed" in again.stderr
    assert simulator.stats()["executed"] == simulator.stats()["posts"] == 300


def test_a_kill_with_rows_made_ready_sends_none_twice(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(exchange_s=0.1)
    config = config_of(shell, simulator)
    for accepted in (3, 6):
        process = shell.start("run", config)
        shell.wait_for(process, shell.has_accepted(accepted))
        process.kill()
        process.communicate()
    assert shell("run", config, "--set", "submit.concurrency=20").returncode == 0
    stats = simulator.stats()
    assert stats["executed"] == stats["accepted"] == 300
    assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(300), 1)
