"""The wire and the milestones of a summary, compared with a relay that counts, and with the results."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.processes import Shell, Simulate, Simulator, constant

Relayed = Callable[..., tuple[Simulator, "Relay"]]


class Relay:
    """Passes bytes on between the runner and a simulator, and counts them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.counted: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []
        self._ends = [self._listener]
        self._start(self._accept)

    def close(self) -> None:
        self._shut_down(self._listener)
        self._threads[0].join()  # no more are opened
        self._shut_down(*self._ends)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                far = socket.create_connection(("127.0.0.1", self._port))
                self._ends.append(far)
                self._start(self._pass_on, near, far, "sent_bytes")
                self._start(self._pass_on, far, near, "received_bytes")

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, name: str) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    self.counted[name] += len(data)
                target.sendall(data)
        self._shut_down(source, target)

    def _shut_down(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relayed(simulate: Simulate) -> Iterator[Relayed]:
    """Start simulators with a relay before each."""
    relays: list[Relay] = []

    def start(mean_s: float = 0.05) -> tuple[Simulator, Relay]:
        simulator = simulate(latency=constant(mean_s))
        relays.append(Relay(simulator.port))
        return simulator, relays[-1]

    yield start
    for relay in relays:
        relay.close()


def began(shell: Shell, name: str = "t") -> float:
    """Return the time of the first mark in the journals."""
    paths = (shell.cwd / "runs" / name).glob("journal*.jsonl")
    lines = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    return min(float(line["at"]) for line in lines if line["event"] == "session")


@pytest.mark.parametrize(("transport", "workers"), [("aiohttp", 1), ("aiohttp", 2), ("openai", 1)])
def test_the_wire_is_counted_to_the_byte(
    relayed: Relayed, shell: Shell, transport: str, workers: int
) -> None:
    simulator, relay = relayed()
    config = shell.config(
        target={"base_url": relay.base_url, "transport": transport},
        source={"count": 300},
        engine={"workers": workers},
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr

    stats, wire = simulator.stats(), shell.summary()["wire"]
    assert wire["requests"] == stats["posts"] + stats["gets"]
    assert {name: wire[name] for name in ("sent_bytes", "received_bytes")} == relay.counted


@pytest.mark.parametrize("workers", [1, 2])
def test_a_continued_run_counts_from_its_first_session(relayed: Relayed, shell: Shell, workers: int) -> None:
    simulator, relay = relayed(0.4)
    config = shell.config(
        target={"base_url": relay.base_url},
        source={"count": 150},
        submit={"max_in_flight": 50},
        engine={"workers": workers},
        limits={"drain_s": 20},
    )
    assert shell.stop_after(30, "run", config, signum=signal.SIGINT) == 128 + signal.SIGINT
    before = shell.summary()
    assert shell("run", config).returncode == 0
    summary = shell.summary()

    stats, wire = simulator.stats(), summary["wire"]
    assert wire["requests"] == stats["posts"] + stats["gets"] > before["wire"]["requests"]
    assert {name: wire[name] for name in ("sent_bytes", "received_bytes")} == relay.counted
    timings = [line["timing"] for line in shell.results()]
    done = sorted(timing["done"] for timing in timings)
    milestones = summary["milestones_s"]
    assert summary["run"]["mode"] == "background"
    assert milestones["first_result"] == before["milestones_s"]["first_result"]
    start = done[0] - milestones["first_result"]
    assert 0 <= began(shell) - start < 5, "the first mark is set once a worker has started"
    assert milestones == {
        "submitted": pytest.approx(max(timing["accepted"] for timing in timings) - start, abs=1e-3),
        "first_result": pytest.approx(done[0] - start, abs=1e-3),
        "half_results": pytest.approx(done[(len(done) - 1) // 2] - start, rel=1e-3, abs=1e-3),
        "last_result": pytest.approx(done[-1] - start, abs=1e-3),
    }


def test_a_run_that_was_killed_is_reported_with_its_milestones(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=constant(0.4))
    config = shell.config(target={"base_url": simulator.base_url}, submit={"max_in_flight": 10})
    shell.stop_after(10, "run", config)
    milestones = json.loads(shell("report", "runs/t", "--json").stdout)["milestones_s"]

    done = [line["timing"]["done"] - began(shell) for line in shell.results()]
    assert milestones["first_result"] == pytest.approx(min(done), abs=1e-3)
    assert milestones["last_result"] == pytest.approx(max(done), abs=1e-3)
    assert milestones["submitted"] >= 0
