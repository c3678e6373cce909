"""Which of two journals is newer: told by the numbers of sessions, however a session began."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from tests.processes import Shell


def row_of(handler):
    return int(json.loads(handler.body)["input"].split("TASK ")[1].split(":")[0])


class Moody:
    """A service that takes row 0, and the others once it `takes_all`; it counts what it took."""

    def __init__(self):
        self.takes_all = False
        self.accepted = Counter()

    def submit(self, handler):
        row = row_of(handler)
        if row and not self.takes_all:
            handler.say(429, {"error": {"message": "later"}})
        else:
            self.accepted[row] += 1
            handler.accept()


@pytest.fixture
def moody(stub: Callable[..., Any], shell: Shell):
    """The service, and a config for eight rows that it takes without keys."""

    @contextmanager
    def serve():
        service = Moody()
        with stub(submit=service.submit) as (base_url, _):
            config = shell.config(
                target={"base_url": base_url, "idempotency_header": None},
                source={"count": 8},
                limits={"drain_s": 0.1},
            )
            yield service, config

    return serve


def entries(shell, event):
    paths = (shell.cwd / "runs/t").glob("journal*.jsonl")
    return sum(path.read_bytes().count(b'"event":"%b"' % event.encode()) for path in paths)


def has_sampled(shell):
    """A condition: a session has gone on for a second from now."""
    path = shell.cwd / "runs/t/metrics.jsonl"
    before = path.read_bytes().count(b"\n")
    return lambda: path.read_bytes().count(b"\n") > before


def run_until(shell, config, workers, condition, signum=signal.SIGKILL):
    process = shell.start("run", config, "--workers", str(workers))
    shell.wait_for(process, condition)
    process.send_signal(signum)
    return process.communicate(timeout=60)[1]


def test_after_a_start_that_was_killed_before_its_mark(moody: Any, shell: Shell) -> None:
    manifest = shell.cwd / "runs/t/manifest.json"
    with moody() as (service, config):
        shell.is_fresh = True  # it imports what sends after it has written the manifest
        run_until(shell, config, 1, manifest.exists)
        shell.is_fresh = False
        run_until(shell, config, 2, lambda: entries(shell, "refused") >= 2, signal.SIGINT)
        service.takes_all = True
        run_until(shell, config, 1, lambda: entries(shell, "accepted") >= 8)
        said = run_until(shell, config, 1, has_sampled(shell))
        assert "8 open" in said
        assert service.accepted == dict.fromkeys(range(8), 1)


def test_after_a_worker_that_was_killed_before_its_mark(moody: Any, shell: Shell) -> None:
    with moody() as (service, config):
        run_until(shell, config, 2, lambda: entries(shell, "refused") >= 4, signal.SIGINT)
        service.takes_all = True
        process = shell.start("run", config, "--workers", "2")
        shell.wait_for(process, lambda: shell.workers_of(process))
        os.kill(shell.workers_of(process)[0], signal.SIGKILL)
        shell.wait_for(process, lambda: entries(shell, "accepted") >= 8)
        process.kill()
        process.communicate(timeout=60)
        said = run_until(shell, config, 2, has_sampled(shell))
        assert "8 open" in said
        assert service.accepted == dict.fromkeys(range(8), 1)
