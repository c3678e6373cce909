"""A worker that is a process: what it does is the session's, how it starts and ends is tested here."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from runner.engine import subprocess_worker
from runner.engine.leases import share
from runner.engine.messages import Report, Say, Setup, Stop, WantRows, WorkerEnded
from runner.engine.subprocess_worker import SubprocessWorker
from runner.errors import RunDirError, StoppedEarly
from runner.store import RunDir
from tests.engine.coordinating import make_config


def setup_of(path: Path) -> Setup:
    return Setup(
        config=share(make_config(10, workers=2), 0).model_dump_json().encode(),
        run_dir=str(path),
        worker=0,
        run_id="run-1",
        base_url="http://127.0.0.1:9/v1",
        session=0,
        resumes=False,
        is_confirmed=False,
        restarts=[],
        began=None,
    )


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setenv("SAIL_API_KEY", "sk-123")
    run_dir = RunDir(tmp_path)
    run_dir.lock()
    return run_dir


def with_process(run_dir: RunDir, act: Callable[[SubprocessWorker], Coroutine[Any, Any, None]]) -> None:
    """Start a worker process, do something with it, and kill it."""

    async def main() -> None:
        worker = SubprocessWorker(run_dir.lock_fd)
        assert repr(worker) == "<SubprocessWorker not started>"
        try:
            await worker.start()
            worker.tell(setup_of(run_dir.path))
            async with asyncio.timeout(60):
                await act(worker)
        finally:
            worker.kill()

    asyncio.run(main())


def is_held(path: Path) -> bool:
    """Whether any process holds the lock of the run directory."""
    other = RunDir(path)
    try:
        other.lock()
    except RunDirError:
        return True
    other.unlock()
    return False


def test_it_serves_commands_reports_and_ends_in_order(run_dir: RunDir) -> None:
    async def act(worker: SubprocessWorker) -> None:
        event = await worker.hear()
        while not isinstance(event, Report):
            assert isinstance(event, WantRows)
            event = await worker.hear()
        assert event.vitals.rss_bytes > 10 << 20
        worker.tell(Stop(forced=False))
        while event is not None:
            assert not isinstance(event, Say)
            last, event = event, await worker.hear()
        assert last == WorkerEnded()
        assert await worker.exit_reason() == "exit code 0"
        await worker.close()

    with_process(run_dir, act)
    assert run_dir.files(0).journal.exists()


def test_a_kill_shows_as_the_end_of_its_events_and_the_lock_is_held_until_then(run_dir: RunDir) -> None:
    async def act(worker: SubprocessWorker) -> None:
        while not isinstance(await worker.hear(), Report):
            pass
        run_dir.unlock()  # as the end of the coordinator would
        assert await asyncio.to_thread(is_held, run_dir.path)
        os.kill(int(repr(worker).strip("<>").split()[-1]), signal.SIGKILL)
        while await worker.hear() is not None:
            pass
        assert await worker.exit_reason() == "SIGKILL"
        worker.tell(Stop(forced=False))
        await worker.close()
        assert not await asyncio.to_thread(is_held, run_dir.path)

    with_process(run_dir, act)


def test_a_process_that_closes_its_channel_and_does_not_exit_is_killed(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    lingering = "import os, sys, time; os.close(int(sys.argv[1])); time.sleep(60)"
    monkeypatch.setattr(subprocess_worker, "MAIN", lingering)
    monkeypatch.setattr(subprocess_worker, "EXIT_S", 0.05)

    async def act(worker: SubprocessWorker) -> None:
        assert await worker.hear() is None
        assert await worker.exit_reason() == "SIGKILL"
        await worker.close()

    with_process(run_dir, act)


def no_more(*_: object) -> None:
    raise OSError(11, "Resource temporarily unavailable")


@pytest.mark.parametrize("missing", ["_launch", "socket.socketpair"])
def test_a_process_that_cannot_be_started_is_an_error_that_says_what_to_do(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    async def main() -> None:
        worker = SubprocessWorker(run_dir.lock_fd)
        with monkeypatch.context() as patched:
            patched.setattr(f"runner.engine.subprocess_worker.{missing}", no_more)
            with pytest.raises(StoppedEarly) as caught:
                await worker.start()
        assert str(caught.value) == (
            "engine.workers: a worker process cannot be started: Resource temporarily unavailable "
            "(lower it, then run the same command again)"
        )
        worker.tell(Stop(forced=True))
        assert await worker.hear() is None
        await worker.close()
        worker.kill()

    asyncio.run(main())
