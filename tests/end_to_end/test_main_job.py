"""The main job over real sockets: the command in one process, the simulator in another."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from runner.simulator import answer_to
from tests.processes import Shell, Simulator

LOGNORMAL_5_S = {"type": "lognormal", "mean_s": 5.0, "sigma": 0.5}


def prompt_of(i: int) -> str:
    return (
        f"TASK {i}: What is a fun fact about the number {i}? "
        f"Then, find the word at index {i} in the following sequence of words: {'word ' * 50}"
    )


def text_of(result):
    return result["response"]["body"]["output"][0]["content"][0]["text"]


def assert_each_row_once_with_its_own_answer(results, count):
    assert Counter(line["row"] for line in results) == dict.fromkeys(range(count), 1)
    for line in results:
        assert line["custom_id"] == f"row-{line['row']}"
        assert line["status"] == "completed"
        digest = answer_to(prompt_of(line["row"]), 5).split()[:2]
        assert text_of(line).split()[:2] == digest


@pytest.mark.timeout(200)
def test_twenty_thousand_rows_come_back_once_each_with_the_right_answer_within_all_limits(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=LOGNORMAL_5_S, exchange_s=0.01)
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 20_000},
        submit={"concurrency": 150, "max_in_flight": 6_000},
        poll={"concurrency": 120, "interval_s": 1.0, "max_interval_s": 30},
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once_with_its_own_answer(shell.results(), 20_000)
    stats = simulator.stats()
    assert stats["posts"] == stats["executed"] == stats["delivered"] == 20_000
    assert stats["polls_after_delivery"] == 0
    assert stats["peak_posts"] <= 150
    assert stats["peak_gets"] <= 120
    assert stats["peak_open"] <= 6_000
    summary = shell.summary()
    assert summary["requests"]["completed"] == 20_000
    assert summary["polls"]["total"] == stats["gets"]


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
@pytest.mark.parametrize("vocabulary", ["sail", "openai"])
def test_both_transports_bring_every_row_home_in_both_vocabularies(
    simulate: Callable[..., Simulator], shell: Shell, transport: str, vocabulary: str
) -> None:
    simulator = simulate(vocabulary=vocabulary)
    config = shell.config(
        target={"base_url": simulator.base_url, "transport": transport}, source={"count": 300}
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert_each_row_once_with_its_own_answer(shell.results(), 300)
    assert simulator.stats()["executed"] == 300


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_with_faults_of_every_kind_every_row_still_completes_exactly_once(
    simulate: Callable[..., Simulator], shell: Shell, transport: str
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


def test_a_rate_limit_is_found_and_kept_to_with_few_refusals(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(rate_limits={"post": {"per_s": 100, "burst": 20}})
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 400}, submit={"concurrency": 100}
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    stats = simulator.stats()
    assert stats["executed"] == 400
    # At worst one burst of all workers, and then a few at each look for more room.
    assert stats["throttled"] < 300
    assert shell.summary()["retries"]["submit"]["429"] == stats["throttled"]


def test_a_result_line_and_its_times_are_as_the_contract_says(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.3})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 20})
    assert shell("run", config).returncode == 0
    for line in shell.results():
        assert list(line) == [
            "custom_id",
            "row",
            "status",
            "response",
            "error",
            "timing",
            "attempts",
            "polls",
        ]
        assert list(line["response"]) == ["status_code", "request_id", "body"]
        assert line["error"] is None
        assert line["attempts"] == 1
        timing = line["timing"]
        assert timing["due"] <= timing["sent"] <= timing["accepted"] <= timing["pending"] <= timing["done"]
        assert timing["done"] - timing["accepted"] >= 0.3 - 0.05  # from the service's clock to ours
        assert line["polls"] >= 2


def test_memory_does_not_depend_on_the_number_of_rows(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.01})
    shell.is_fresh = True  # else the memory of all that is imported would hide some
    peaks = []
    for name, count in (("few", 1_000), ("many", 10_000)):
        config = shell.config(
            name=name,
            target={"base_url": simulator.base_url},
            source={"count": count},
            submit={"max_in_flight": 300},
        )
        assert shell("run", config).returncode == 0
        peaks.append(shell.summary(name)["client"]["max_rss_bytes"])
    assert peaks[1] < 1.1 * peaks[0]


def test_text_store_keeps_text_and_usage_and_drops_the_rest(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 5}, sink={"store": "text"}
    )
    assert shell("run", config).returncode == 0
    results = shell.results()
    assert_each_row_once_with_its_own_answer(results, 5)
    body = results[0]["response"]["body"]
    assert set(body) == {"id", "object", "status", "model", "output", "usage"}
    assert shell.summary()["tokens"]["output"] > 0


def test_metrics_have_a_line_a_second_that_adds_up(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 1.2})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 30})
    assert shell("run", config).returncode == 0
    lines = (shell.cwd / "runs/t/metrics.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    assert len(samples) >= 2
    assert samples[0]["in_flight"] == 30
    assert samples[-1]["done"] == samples[-1]["requests"]["completed"] == 30
    assert samples[-1]["polls"] == shell.summary()["polls"]["total"]
    assert sum(sample["completed_per_s"] for sample in samples) > 0
