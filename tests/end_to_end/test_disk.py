"""The run directory fails under a run: it stops at once with 3, keeps what it has, and can be continued."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.processes import NEVER, Shell, Simulate, constant

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
needs_prlimit = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="this system has no prlimit")


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Callable[[str], object]]:
    """Mount a tmpfs of this size at `path`, or skip the test; yields a function that remounts it."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path]).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)
    finally:
        subprocess.run(["umount", path], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@needs_root
def test_what_was_received_when_the_disk_was_full_is_written_from_the_reserve(
    simulate: Simulate, shell: Shell
) -> None:
    """A service that forgets what it has delivered must not be asked twice."""
    # At any moment many polls are being answered that bring a result.
    simulator = simulate(latency=constant(0.3), exchange_s=0.3, retention_s=0.01)
    with small_disk(shell.cwd / "runs", "1m") as remount:
        config = shell.config(
            target={"base_url": simulator.base_url}, source={"count": 400}, submit={"max_in_flight": 60}
        )
        process = shell.start("run", config)
        shell.wait_for(process, shell.has_results(50))
        fill(shell.cwd / "runs/filler")
        done = shell.end(process)
        assert done.returncode == 3, done.stderr
        assert "No space left" in done.stderr
        assert "could not be written" not in done.stderr
        assert len(shell.results()) == simulator.stats()["delivered"] < 400
        remount("size=64m")
        done = shell("run", config)
        assert done.returncode == 0, done.stderr
        shell.assert_each_row_once(400)
        stats = simulator.stats()
        assert (stats["executed"], stats["polls_after_delivery"]) == (400, 0)


@needs_root
@pytest.mark.parametrize(
    ("size", "options", "said"),
    [("1m", "ro", "Read-only file system"), ("64k", "size=64k", "No space left on device")],
)
def test_a_directory_that_cannot_be_written_at_the_start_ends_it_before_anything_is_sent(
    simulate: Simulate, shell: Shell, size: str, options: str, said: str
) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    with small_disk(shell.cwd / "runs", size) as remount:
        fill(shell.cwd / "runs/filler")
        remount(options)
        done = shell("run", config)
        assert done.returncode == 3, done.stderr
        assert said in done.stderr
        assert simulator.stats()["posts"] == 0


@needs_root
def test_a_result_that_a_cancellation_brings_to_a_full_disk_is_not_lost(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(latency=NEVER)
    with small_disk(shell.cwd / "runs", "2m") as remount:
        config = shell.config(target={"base_url": simulator.base_url}, source={"count": 20})
        shell.run_until(shell.has_accepted(20), "run", config)
        fill(shell.cwd / "runs/filler")
        done = shell("cancel", "runs/t")
        assert done.returncode == 3, done.stderr
        assert "No space left on device" in done.stderr
        assert "cancelled" in done.stdout
        remount("size=64m")
        assert shell("cancel", "runs/t").returncode == 0
        assert shell.statuses() == {"cancelled": 20}


@needs_prlimit
def test_a_file_that_may_not_grow_stops_the_run_like_a_full_disk(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=constant(1))
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 100}, limits={"drain_s": 0.5}
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(100))
    most_bytes = (shell.cwd / "runs/t/journal.jsonl").stat().st_size // 2
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    done = shell.end(process)
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stderr
    for line in (shell.cwd / "runs/t/results.jsonl").read_bytes().splitlines(keepends=True):
        assert line.endswith(b"\n")
        json.loads(line)
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(100)
    assert simulator.stats()["executed"] == 100


@needs_prlimit
def test_too_many_open_files_stop_the_run_with_3_and_lose_nothing(simulate: Simulate, shell: Shell) -> None:
    """The fault `lost` closes connections, so that new ones are needed all the time."""
    simulator = simulate(faults={"get": {"lost": 0.5}}, latency=constant(0.3))
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 200},
        submit={"max_in_flight": 60},
        poll={"strategy": "fixed"},  # polls all jobs over and over: as many connections as there may be
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(30))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (32, 32))
    done = shell.end(process)
    assert done.returncode == 3, done.stderr
    assert "at most 32 open files: no connection could be opened" in done.stderr
    assert "Too many open files" in done.stderr
    assert "ulimit -n" in done.stderr
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(200)
    assert simulator.stats()["executed"] == 200


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
def test_the_limit_of_open_files_is_raised_for_as_many_connections_as_needed(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(exchange_s=0.3)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 200}, submit={"concurrency": 150}
    )
    command = ["prlimit", "--nofile=128:1024", *shell.command("run", config)]
    done = subprocess.run(command, cwd=shell.cwd, env=shell.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert simulator.stats()["peak_posts"] > 128
