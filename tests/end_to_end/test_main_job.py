"""The main job over real sockets: the command in one process, the simulator in another."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from runner.simulator import answer_to
from tests.processes import Shell, Simulate, constant

LOGNORMAL = {"type": "lognormal", "mean_s": 1.5, "sigma": 0.5}


def prompt_of(i: int) -> str:
    return (
        f"TASK {i}: What is a fun fact about the number {i}? "
        f"Then, find the word at index {i} in the following sequence of words: {'word ' * 50}"
    )


def text_of(result: Any) -> str:
    text: str = result["response"]["body"]["output"][0]["content"][0]["text"]
    return text


def assert_each_row_once_with_its_own_answer(results: list[Any], count: int) -> None:
    assert Counter(line["row"] for line in results) == dict.fromkeys(range(count), 1)
    for line in results:
        assert line["custom_id"] == f"row-{line['row']}"
        assert line["status"] == "completed"
        digest = answer_to(prompt_of(line["row"]), 5).split()[:2]
        assert text_of(line).split()[:2] == digest


def test_thousands_of_rows_come_back_once_each_with_the_right_answer_within_all_limits(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(latency=LOGNORMAL, exchange_s=0.01)
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 8_000},
        submit={"concurrency": 150, "max_in_flight": 3_000},
        poll={"concurrency": 120, "interval_s": 0.5, "max_interval_s": 10},
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once_with_its_own_answer(shell.results(), 8_000)
    stats = simulator.stats()
    assert stats["posts"] == stats["executed"] == stats["delivered"] == 8_000
    assert stats["polls_after_delivery"] == 0
    assert stats["peak_posts"] <= 150
    assert stats["peak_gets"] <= 120
    assert stats["peak_open"] <= 3_000
    summary = shell.summary()
    assert summary["requests"]["completed"] == 8_000
    assert summary["polls"]["total"] == stats["gets"]


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
@pytest.mark.parametrize("vocabulary", ["sail", "openai"])
def test_both_transports_complete_every_row_in_both_vocabularies(
    simulate: Simulate, shell: Shell, transport: str, vocabulary: str
) -> None:
    simulator = simulate(vocabulary=vocabulary)
    target = {"base_url": simulator.base_url, "transport": transport}
    done = shell("run", shell.config(target=target, source={"count": 100}))
    assert done.returncode == 0, done.stderr
    assert_each_row_once_with_its_own_answer(shell.results(), 100)
    assert simulator.stats()["executed"] == 100


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_with_faults_of_every_kind_every_row_still_completes_exactly_once(
    simulate: Simulate, shell: Shell, transport: str
) -> None:
    kinds = (
        "429", "500", "502", "503", "504", "529", "html", "empty", "cut", "not_utf8", "not_json",
        "not_object", "no_id", "odd_status", "reset", "lost", "hang", "slow",
    )  # fmt: skip
    faults = {**dict.fromkeys(kinds, 0.01), **dict.fromkeys(("429", "503", "529"), 0.003)}
    simulator = simulate(faults={"post": faults, "get": faults}, fault_s=0.1)
    config = shell.config(
        target={"base_url": simulator.base_url, "transport": transport, "timeout_s": 1.0},
        source={"count": 400},
        submit={"concurrency": 40, "retry": {"max_attempts": 20, "base_s": 0.02, "cap_s": 0.2}},
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_each_row_once_with_its_own_answer(shell.results(), 400)
    stats = simulator.stats()
    assert stats["executed"] == 400
    retries = shell.summary()["retries"]
    assert {"reset", "timeout", "empty", "500"} <= set(retries["submit"]) | set(retries["poll"])


def test_results_and_metrics_are_as_the_contract_says(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=constant(1.2))
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 30})
    assert shell("run", config).returncode == 0
    for line in shell.results():
        assert list(line) == [
            "custom_id", "row", "status", "response", "error", "timing", "attempts", "polls",
        ]  # fmt: skip
        assert list(line["response"]) == ["status_code", "request_id", "body"]
        assert line["error"] is None
        assert line["attempts"] == 1
        timing = line["timing"]
        assert timing["due"] <= timing["sent"] <= timing["accepted"] <= timing["pending"] <= timing["done"]
        assert timing["done"] - timing["accepted"] >= 1.2 - 0.05  # from the service's clock to ours
        assert line["polls"] >= 2
    samples = [json.loads(line) for line in (shell.cwd / "runs/t/metrics.jsonl").read_bytes().splitlines()]
    assert len(samples) >= 2, "one a second"
    assert samples[0]["in_flight"] == 30
    assert samples[-1]["done"] == samples[-1]["requests"]["completed"] == 30
    assert samples[-1]["polls"] == shell.summary()["polls"]["total"]
    assert sum(sample["completed_per_s"] for sample in samples) > 0


def test_memory_does_not_depend_on_the_number_of_rows(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=constant(0.01))
    shell.is_fresh = True  # else the memory of all that is imported would hide some
    peaks = []
    for name, count in (("few", 1_000), ("many", 8_000)):
        config = shell.config(
            name=name,
            target={"base_url": simulator.base_url},
            source={"count": count},
            submit={"max_in_flight": 300},
        )
        assert shell("run", config).returncode == 0
        peaks.append(shell.summary(name)["client"]["max_rss_bytes"])
    assert peaks[1] < 1.1 * peaks[0]
