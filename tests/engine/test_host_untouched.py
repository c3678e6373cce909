"""A session has no effect on its host: whoever runs one from Python keeps what belongs to the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOST = """
import asyncio, gc, os, resource, signal, sys, threading, warnings
from pathlib import Path

LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]

def state():
    return {
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "garbage collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.get_debug()),
        "limits": [resource.getrlimit(getattr(resource, name)) for name in LIMITS],
        "event loop policy": asyncio.events._event_loop_policy,
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.getswitchinterval()),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "umask": os.umask(0o022),
        "recursion": sys.getrecursionlimit(),
    }

def compare(before, when):
    for name, value in state().items():
        assert value == before[name], f"{name} changed {when}: {before[name]} -> {value}"

asyncio.new_event_loop().close()  # makes the default policy
before = state()

import runner.engine.coordinator, runner.engine.single, runner.engine.worker, runner.session.session
import runner.transport.direct, runner.transport.sdk
compare(before, "by an import")

from runner.engine.single import Single
from runner.session.clock import Clock
from runner.transport.fake import Behaviour, Fake
from tests.engine.coordinating import make_task

async def main():
    task = make_task(Path("runs"), rows=20, workers=1, poll={"interval_s": 0.01})
    inside = state()
    single = Single(task, Fake(Behaviour(takes_s=0.0)), said.append, Clock())
    running = asyncio.create_task(single.run())
    await asyncio.sleep(0.005)
    compare(inside, "while a session ran")
    outcome = await running
    assert outcome.ended_by is None
    assert [it for it in asyncio.all_tasks() if it is not asyncio.current_task()] == []

said = []
threads = threading.active_count()
asyncio.run(main())
compare(before, "by a session")
assert (said, threading.active_count()) == ([], threads)
assert len(Path("runs/results.jsonl").read_bytes().splitlines()) == 20
"""


def test_importing_and_running_a_session_changes_nothing_and_prints_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", HOST],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
