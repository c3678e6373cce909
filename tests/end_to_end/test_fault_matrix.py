"""Every fault that the simulator knows, on each exchange and transport: what it costs, how it is counted.

A run of a few rows meets one kind of fault again and again. Each row must end as one line and run once, and
every retry must be counted under the runner's word for the fault, as often as the service did it. The
simulator is on a thread of this process, the run in the main thread, and real sockets are between them: the
cheapest way that is still real. A job takes no time, so that seed and bodies decide which exchanges are hit.
"""

import asyncio
import contextlib
import gc
import json
import signal
import urllib.request
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, get_args

import pytest
import uvloop
import yaml

from runner.commands.run import Options
from runner.commands.run import run as run_command
from runner.commands.signals import SIGNALS, Signals
from runner.config import Simulator, load
from runner.config.simulation import FaultKind
from runner.simulator import serve

ROWS = 12
NO_RETRY = "no retry"
"""Not an error at all."""
REJECTED = "rejected"
"""The service said no to the request itself: the row ends so, which is right, and is not sent again."""

CAUSES = {
    # fault: the word of `retries` in summary.json for a POST, and for a GET; the same on both transports
    "400": (REJECTED, "gone"),
    "404": (REJECTED, "gone"),
    "429": ("429", "429"),
    "500": ("500", "500"),
    "502": ("502", "502"),
    "503": ("503", "503"),
    "504": ("504", "504"),
    "529": ("529", "529"),
    "html": ("502", "502"),  # the page comes with its status, and that says more
    "empty": ("empty", "empty"),
    "cut": ("cut", "cut"),
    "not_utf8": ("not_utf8", "not_utf8"),
    "not_json": ("not_json", "not_json"),
    "not_object": ("not_object", "not_object"),
    "no_id": ("no_id", "no_id"),
    "odd_status": (NO_RETRY, NO_RETRY),  # a word never seen is "not done yet"
    "reset": ("reset", "reset"),
    "lost": ("reset", "reset"),  # closed without an answer: for a client the same
    "hang": ("timeout", "timeout"),
    "slow": (NO_RETRY, NO_RETRY),  # below timeout_s
}

REPEATED_BY_THE_LIBRARY = {("openai", "get", "reset"), ("openai", "get", "lost")}
"""Where transports differ: the SDK's aiohttp client repeats a GET that lost a kept connection, uncounted."""

SEED = 5402
"""Under it no fault meets one row more than twice, none the first row, and the rare ones meet two rows."""
OFTEN = 0.4
RARELY = 0.15
"""For those with a Retry-After: each closes the gate for a second or two, which nothing shortens."""
WITH_RETRY_AFTER = ("429", "503", "529")
SHORT_S = 0.8
"""`timeout_s` where timeouts are what is tested. Long enough that a busy machine makes none of its own."""


@dataclass
class Told:
    """What a run left, and what the service says of it."""

    exit_code: int
    results: list[Any]
    summary: Any
    stats: Any
    jobs: list[Any]


@contextlib.contextmanager
def simulator_on_a_thread(settings):
    """The base URL of a simulator; it has its own event loop, and real sockets."""
    ready = Future()

    async def main():
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def tell(base_url):
            ready.set_result((base_url, loop, stop))

        await serve(settings, "127.0.0.1", 0, on_ready=tell, stop=stop)

    def run():
        try:
            uvloop.run(main())
        except BaseException as error:  # the test waits for the address, and hears of it instead
            if not ready.done():
                ready.set_exception(error)
            raise

    thread = Thread(target=run, name="simulator")
    thread.start()
    base_url, loop, stop = ready.result()
    try:
        yield base_url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def this_process():
    """A run takes the signals for as long as it lasts, and sets the garbage collector up for good."""
    thresholds = gc.get_threshold()
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    assert [signal.getsignal(signum) for signum in SIGNALS] == handlers


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, this_process: Any):
    """`run(transport, kind, exchange)`: one run against a service with that fault, to its end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAIL_API_KEY", "sk-test-3f9a1c7e5b")

    def run(transport, kind, exchange, *, timeout_s=30.0, fault_s=0.05):
        probability = RARELY if kind in WITH_RETRY_AFTER else OFTEN
        settings = Simulator.model_validate(
            {
                "latency": {"type": "constant", "mean_s": 0},
                "faults": {exchange: {kind: probability}},
                "fault_s": fault_s,
                "seed": SEED,
            }
        )
        with simulator_on_a_thread(settings) as base_url:
            config = {
                "name": "t",
                "target": {"base_url": base_url, "transport": transport, "timeout_s": timeout_s},
                "request": {"model": "m"},
                "source": {"count": ROWS, "prompt": "Row {{ i }}"},
                "submit": {
                    "concurrency": ROWS,
                    "retry": {"base_s": 0.01, "cap_s": 0.05, "max_attempts": 50},
                },
                "poll": {"concurrency": ROWS, "interval_s": 0.05, "max_interval_s": 0.1},
            }
            (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
            with Signals() as signals:
                ending = run_command(load("config.yaml"), Options(quiet=True), signals)
            return Told(
                exit_code=ending.exit_code,
                results=json_lines((tmp_path / "runs/t/results.jsonl").read_bytes()),
                summary=json.loads((tmp_path / "runs/t/summary.json").read_bytes()),
                stats=json.loads(get(base_url, "stats")),
                jobs=json_lines(get(base_url, "jobs")),
            )

    return run


def get(base_url, what):
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/simulator/{what}", timeout=30) as answer:
        return answer.read()


def json_lines(content):
    return [json.loads(line) for line in content.splitlines()]


def assert_each_row_ended_once_and_ran_once(told, rejected):
    assert Counter(line["row"] for line in told.results) == dict.fromkeys(range(ROWS), 1)
    statuses = Counter(line["status"] for line in told.results)
    assert statuses == +Counter(completed=ROWS - rejected, rejected=rejected)
    assert told.exit_code == (1 if rejected else 0)
    assert told.stats["executed"] == told.stats["accepted"] == told.stats["delivered"] == ROWS - rejected
    assert [job["executed"] for job in told.jobs] == [1] * (ROWS - rejected)
    bodies = (line["response"]["body"] for line in told.results if line["status"] == "completed")
    assert Counter(body["id"] for body in bodies) == Counter(job["id"] for job in told.jobs)


def assert_counted(told, kind, exchange, cause, *, may_repeat=False):
    """The fault happened, and is in the summary as often as it did, under `cause` and nowhere else."""
    injected = told.stats["faults"][exchange][kind]
    assert injected > 0
    assert told.stats["faults"] == {"post": {}, "get": {}, exchange: {kind: injected}}
    repeated = told.stats["gets"] - told.summary["polls"]["total"]
    assert 0 <= repeated <= (injected if may_repeat else 0)
    counts = {"submit": {}, "poll": {}}
    if cause not in (NO_RETRY, REJECTED):
        counts["submit" if exchange == "post" else "poll"] = +Counter({cause: injected - repeated})
    assert told.summary["retries"] == counts
    assert_each_row_ended_once_and_ran_once(told, rejected=injected if cause == REJECTED else 0)
    assert told.stats["posts"] == ROWS + sum(counts["submit"].values())
    assert told.stats["posts"] == sum(line["attempts"] for line in told.results)
    assert told.summary["polls"]["total"] == sum(line["polls"] for line in told.results)


def test_the_table_has_every_fault() -> None:
    assert set(CAUSES) == set(get_args(FaultKind))


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
@pytest.mark.parametrize("exchange", ["post", "get"])
@pytest.mark.parametrize("kind", CAUSES)
def test_a_fault_is_counted_as_often_as_it_happened_and_each_row_runs_once(
    run: Any, kind: Any, exchange: str, transport: str
) -> None:
    told = run(transport, kind, exchange, timeout_s=SHORT_S if kind == "hang" else 30.0)
    cause = CAUSES[kind][exchange == "get"]
    may_repeat = (transport, exchange, kind) in REPEATED_BY_THE_LIBRARY
    assert_counted(told, kind, exchange, cause, may_repeat=may_repeat)


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
@pytest.mark.parametrize("exchange", ["post", "get"])
def test_an_answer_slower_than_the_timeout_is_a_timeout(run: Any, exchange: str, transport: str) -> None:
    told = run(transport, "slow", exchange, timeout_s=SHORT_S, fault_s=60)
    assert_counted(told, "slow", exchange, "timeout")
