"""Every fault that the simulator knows, on each exchange and transport: its cost, and how it is counted.

A run of a few rows meets one kind of fault many times. Each row must end as one line and run once, and
every retry must be counted under the runner's word for the fault, as often as the service injected it. The
simulator is on a thread of this process, the run is in the main thread, and real sockets connect them: the
cheapest way that is still real. A job takes no time, so that seed and bodies decide which exchanges are hit.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, get_args

import pytest
import uvloop
import yaml

from runner.commands.run import Options, run
from runner.commands.signals import SIGNALS, Signals
from runner.config import Simulator, load
from runner.config.simulation import FaultKind
from runner.simulator import serve

ROWS = 12
NO_RETRY = "no retry"
"""Mark of a fault that is no error."""
REJECTED = "rejected"
"""Mark of a fault that rejects the request itself: its row becomes `rejected`, and is not sent again."""

CAUSES: dict[str, tuple[str, str]] = {
    # fault: the word in `retries` of summary.json for a POST, and for a GET; the same for both transports
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
"""Faults that transports treat differently: the SDK's client repeats a GET whose kept connection is lost."""

SEED = 5402
"""Seed under which no fault meets a row more than twice, or the first row; rare faults meet two rows."""
OFTEN = 0.4
RARELY = 0.15
"""Probability of faults with a Retry-After: each closes the gate for a second or two."""
WITH_RETRY_AFTER = ("429", "503", "529")
SHORT_S = 0.8
"""`timeout_s` of tests of timeouts, long enough that a busy machine causes none."""


@dataclass
class Ran:
    """What a run left, and what the service says about it."""

    exit_code: int
    results: list[Any]
    summary: Any
    stats: Any
    jobs: list[Any]


class RunWith(Protocol):
    def __call__(
        self, transport: str, kind: str, exchange: str, *, timeout_s: float = 30.0, fault_s: float = 0.05
    ) -> Ran: ...


@contextlib.contextmanager
def simulator_on_a_thread(settings: Simulator) -> Iterator[str]:
    """Serve a simulator with an event loop of its own, and real sockets; yields its base URL."""
    ready: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def announce(base_url: str) -> None:
            ready.set_result((base_url, loop, stop))

        await serve(settings, "127.0.0.1", 0, on_ready=announce, stop=stop)

    def serve_it() -> None:
        try:
            uvloop.run(main())
        except BaseException as error:  # the test waits for the address, and hears of it instead
            if not ready.done():
                ready.set_exception(error)
            raise

    thread = Thread(target=serve_it, name="simulator")
    thread.start()
    base_url, loop, stop = ready.result()
    try:
        yield base_url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def this_process() -> Iterator[None]:
    """Undo what a run does to its process for good, and check that it restores the signal handlers."""
    thresholds = gc.get_threshold()
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    assert [signal.getsignal(signum) for signum in SIGNALS] == handlers


@pytest.fixture
def run_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, this_process: None) -> RunWith:
    """Return a function that does one run, to its end, before a service with a fault."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAIL_API_KEY", "sk-test-3f9a1c7e5b")

    def run_with(
        transport: str, kind: str, exchange: str, *, timeout_s: float = 30.0, fault_s: float = 0.05
    ) -> Ran:
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
                result = run(load("config.yaml"), Options(quiet=True), signals)
            return Ran(
                exit_code=result.exit_code,
                results=json_lines((tmp_path / "runs/t/results.jsonl").read_bytes()),
                summary=json.loads((tmp_path / "runs/t/summary.json").read_bytes()),
                stats=json.loads(get(base_url, "stats")),
                jobs=json_lines(get(base_url, "jobs")),
            )

    return run_with


def get(base_url: str, what: str) -> bytes:
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/simulator/{what}", timeout=30) as answer:
        content: bytes = answer.read()
    return content


def json_lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


def assert_each_row_ended_once_and_ran_once(ran: Ran, rejected: int) -> None:
    assert Counter(line["row"] for line in ran.results) == dict.fromkeys(range(ROWS), 1)
    statuses = Counter(line["status"] for line in ran.results)
    assert statuses == +Counter(completed=ROWS - rejected, rejected=rejected)
    assert ran.exit_code == (1 if rejected else 0)
    assert ran.stats["executed"] == ran.stats["accepted"] == ran.stats["delivered"] == ROWS - rejected
    assert [job["executed"] for job in ran.jobs] == [1] * (ROWS - rejected)
    bodies = (line["response"]["body"] for line in ran.results if line["status"] == "completed")
    assert Counter(body["id"] for body in bodies) == Counter(job["id"] for job in ran.jobs)


def assert_counted(ran: Ran, kind: str, exchange: str, cause: str, *, may_repeat: bool = False) -> None:
    """Check that the fault happened, and is in the summary as often as it did, under `cause` alone."""
    injected = ran.stats["faults"][exchange][kind]
    assert injected > 0
    assert ran.stats["faults"] == {"post": {}, "get": {}, exchange: {kind: injected}}
    repeated = ran.stats["gets"] - ran.summary["polls"]["total"]
    assert 0 <= repeated <= (injected if may_repeat else 0)
    counts: dict[str, dict[str, int]] = {"submit": {}, "poll": {}}
    if cause not in (NO_RETRY, REJECTED):
        counts["submit" if exchange == "post" else "poll"] = +Counter({cause: injected - repeated})
    assert ran.summary["retries"] == counts
    assert_each_row_ended_once_and_ran_once(ran, rejected=injected if cause == REJECTED else 0)
    assert ran.stats["posts"] == ROWS + sum(counts["submit"].values())
    assert ran.stats["posts"] == sum(line["attempts"] for line in ran.results)
    assert ran.summary["polls"]["total"] == sum(line["polls"] for line in ran.results)


def test_the_table_has_every_fault() -> None:
    assert set(CAUSES) == set(get_args(FaultKind))


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
@pytest.mark.parametrize("exchange", ["post", "get"])
@pytest.mark.parametrize("kind", CAUSES)
def test_a_fault_is_counted_as_often_as_it_happened_and_each_row_runs_once(
    run_with: RunWith, kind: str, exchange: str, transport: str
) -> None:
    ran = run_with(transport, kind, exchange, timeout_s=SHORT_S if kind == "hang" else 30.0)
    cause = CAUSES[kind][exchange == "get"]
    may_repeat = (transport, exchange, kind) in REPEATED_BY_THE_LIBRARY
    assert_counted(ran, kind, exchange, cause, may_repeat=may_repeat)


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
@pytest.mark.parametrize("exchange", ["post", "get"])
def test_an_answer_slower_than_the_timeout_is_a_timeout(
    run_with: RunWith, exchange: str, transport: str
) -> None:
    ran = run_with(transport, "slow", exchange, timeout_s=SHORT_S, fault_s=60)
    assert_counted(ran, "slow", exchange, "timeout")
