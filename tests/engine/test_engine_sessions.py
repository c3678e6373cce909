"""Which of two journals is newer: told by the numbers of sessions, however a session began."""

import json
import os
import signal
from collections import Counter
from contextlib import contextmanager

import pytest


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
def moody(stub, runner):
    """The service, and a config for eight rows that it takes without keys."""

    @contextmanager
    def serve():
        service = Moody()
        with stub(submit=service.submit) as (base_url, _):
            config = runner.config(
                target={"base_url": base_url, "idempotency_header": None},
                source={"count": 8},
                limits={"drain_s": 0.1},
            )
            yield service, config

    return serve


def entries(runner, event):
    paths = (runner.cwd / "runs/t").glob("journal*.jsonl")
    return sum(path.read_bytes().count(b'"event":"%b"' % event.encode()) for path in paths)


def has_sampled(runner):
    """A condition: a session has gone on for a second from now."""
    path = runner.cwd / "runs/t/metrics.jsonl"
    before = path.read_bytes().count(b"\n")
    return lambda: path.read_bytes().count(b"\n") > before


def run_until(runner, config, workers, condition, signum=signal.SIGKILL):
    process = runner.start("run", config, "--workers", str(workers))
    runner.wait_for(process, condition)
    process.send_signal(signum)
    return process.communicate(timeout=60)[1]


def test_after_a_start_that_was_killed_before_its_mark(moody, runner):
    manifest = runner.cwd / "runs/t/manifest.json"
    with moody() as (service, config):
        runner.is_fresh = True  # it imports what sends after it has written the manifest
        run_until(runner, config, 1, manifest.exists)
        runner.is_fresh = False
        run_until(runner, config, 2, lambda: entries(runner, "refused") >= 2, signal.SIGINT)
        service.takes_all = True
        run_until(runner, config, 1, lambda: entries(runner, "accepted") >= 8)
        said = run_until(runner, config, 1, has_sampled(runner))
        assert "8 open" in said
        assert service.accepted == dict.fromkeys(range(8), 1)


def test_after_a_worker_that_was_killed_before_its_mark(moody, runner):
    with moody() as (service, config):
        run_until(runner, config, 2, lambda: entries(runner, "refused") >= 4, signal.SIGINT)
        service.takes_all = True
        process = runner.start("run", config, "--workers", "2")
        runner.wait_for(process, lambda: runner.workers_of(process))
        os.kill(runner.workers_of(process)[0], signal.SIGKILL)
        runner.wait_for(process, lambda: entries(runner, "accepted") >= 8)
        process.kill()
        process.communicate(timeout=60)
        said = run_until(runner, config, 2, has_sampled(runner))
        assert "8 open" in said
        assert service.accepted == dict.fromkeys(range(8), 1)
