"""Real processes for the tests: the command `runner`, and a simulator beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.forking import Forge
from tests.processes import Shell, Simulate, Simulator, constant

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    forge = Forge()
    yield forge
    forge.close()


@pytest.fixture
def simulate(forge: Forge) -> Iterator[Simulate]:
    """Start simulators with the settings given; jobs take 50 ms unless they say otherwise."""
    started: list[Simulator] = []

    def start(state: Path | None = None, port: int = 0, **settings: object) -> Simulator:
        settings.setdefault("latency", constant(0.05))
        command = ["simulate", "--port", str(port), "--settings-json", json.dumps(settings)]
        command += ["--state", str(state)] if state else []
        process = forge.start(command, Path.cwd(), os.environ, with_stderr=False)
        line = process.stdout.readline()
        assert line.startswith("simulator listening on "), line
        simulator = Simulator(process, line.split()[-1])
        started.append(simulator)
        return simulator

    yield start
    for simulator in started:
        simulator.stop()


@pytest.fixture
def shell(tmp_path: Path, forge: Forge) -> Iterator[Shell]:
    shell = Shell(tmp_path, forge)
    yield shell
    shell.close()
