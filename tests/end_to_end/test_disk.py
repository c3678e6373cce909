"""The run directory fails under a run: it stops at once with 3, keeps what it has, and can be continued."""

import json
import os
import resource
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress

import pytest

from tests.processes import Shell, Simulator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")

BUSY = {"latency": {"type": "constant", "mean_s": 0.3}, "exchange_s": 0.3}
"""At any moment many polls are under way that bring a result."""


@contextmanager
def small_disk(path, size):
    """A tmpfs of this size at `path`; skips the test where none can be mounted."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path]).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)
    finally:
        subprocess.run(["umount", path], check=True)


def fill(path):
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def filled_up(shell, simulator, *, reserve=True, drain_s=30):
    """A run of 400 rows is at work when its disk gets full; its config and its process."""
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 400},
        submit={"max_in_flight": 60},
        limits={"drain_s": drain_s},
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    if not reserve:
        (shell.cwd / "runs/t/.reserve").unlink()
    fill(shell.cwd / "runs/filler")
    return config, process


def wait_until_it_waits_for_room(process):
    said = ""
    while "for room to write what was received" not in said:
        said = process.stderr.readline()
        assert said, "it ended without having waited"


def assert_each_row_once(shell, count):
    assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(count), 1)
    assert {line["status"] for line in shell.results()} == {"completed"}


@needs_root
def test_a_full_disk_stops_the_run_with_3_and_it_continues_when_there_is_room(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    with small_disk(shell.cwd / "runs", "256k") as remount:
        config = shell.config(
            target={"base_url": simulator.base_url}, source={"count": 500}, limits={"drain_s": 1}
        )
        done = shell("run", config)
        assert done.returncode == 3, done.stderr
        assert "No space left on device" in done.stderr
        delivered = simulator.stats()["delivered"]
        remount("size=64m")
        assert shell("run", config).returncode == 0
        assert_each_row_once(shell, 500)
        stats = simulator.stats()
        assert stats["executed"] == 500
        assert delivered > 0


@needs_root
def test_what_was_received_when_the_disk_was_full_is_written_from_the_reserve(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    """So that a service which forgets what it has delivered is not asked twice."""
    simulator = simulate(**BUSY, retention_s=0.01)
    with small_disk(shell.cwd / "runs", "1m") as remount:
        config, process = filled_up(shell, simulator)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert "No space left" in errors
        assert "could not be written" not in errors
        assert len(shell.results()) == simulator.stats()["delivered"] < 400
        remount("size=64m")
        done = shell("run", config)
        assert done.returncode == 0, done.stderr
        assert_each_row_once(shell, 400)
        stats = simulator.stats()
        assert (stats["executed"], stats["polls_after_delivery"]) == (400, 0)


@needs_root
def test_what_waits_in_memory_for_room_is_written_when_there_is_some(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(**BUSY, retention_s=0.01)
    with small_disk(shell.cwd / "runs", "1m") as remount:
        config, process = filled_up(shell, simulator, reserve=False)
        wait_until_it_waits_for_room(process)
        remount("size=64m")
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert len(shell.results()) == simulator.stats()["delivered"] < 400
        assert shell.summary()["requests"]["completed"] == len(shell.results())
        assert shell("run", config).returncode == 0
        assert_each_row_once(shell, 400)


@needs_root
def test_a_signal_ends_the_wait_for_room_and_the_loss_is_told(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(**BUSY)
    with small_disk(shell.cwd / "runs", "1m") as remount:
        config, process = filled_up(shell, simulator, reserve=False, drain_s=1000)
        wait_until_it_waits_for_room(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert "results that were received could not be written" in errors
        remount("size=64m")
        assert shell("run", config).returncode == 0
        assert_each_row_once(shell, 400)


@needs_root
def test_a_read_only_directory_is_refused_before_anything_is_sent(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    with small_disk(shell.cwd / "runs", "1m") as remount:
        config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
        remount("ro")
        done = shell("run", config)
        assert done.returncode == 3, done.stderr
        assert "Read-only file system" in done.stderr
        assert simulator.stats()["posts"] == 0


@needs_root
def test_a_disk_that_is_full_at_the_start_is_told_with_3(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    with small_disk(shell.cwd / "runs", "64k") as remount:
        fill(shell.cwd / "runs/filler")
        config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
        done = shell("run", config)
        assert done.returncode == 3, done.stderr
        assert "No space left on device" in done.stderr
        assert simulator.stats()["posts"] == 0
        remount("size=8m")
        assert shell("run", config).returncode == 0


@needs_root
def test_a_result_that_a_cancellation_brings_to_a_full_disk_is_not_lost(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 3600})
    with small_disk(shell.cwd / "runs", "2m") as remount:
        config = shell.config(target={"base_url": simulator.base_url}, source={"count": 20})
        process = shell.start("run", config)
        journal = shell.cwd / "runs/t/journal.jsonl"
        shell.wait_for(process, lambda: journal.exists() and journal.read_bytes().count(b'"accepted"') == 20)
        process.kill()
        process.communicate()
        fill(shell.cwd / "runs/filler")
        done = shell("cancel", "runs/t")
        assert done.returncode == 3, done.stderr
        assert "No space left on device" in done.stderr
        assert "cancelled" in done.stdout
        remount("size=64m")
        assert shell("cancel", "runs/t").returncode == 0
        assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(20), 1)


def test_a_file_that_may_not_grow_stops_the_run_like_a_full_disk(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 1})
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 100}, limits={"drain_s": 0.5}
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(100))
    journal_bytes = (shell.cwd / "runs/t/journal.jsonl").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (journal_bytes // 2, journal_bytes // 2))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "File too large" in errors
    for line in (shell.cwd / "runs/t/results.jsonl").read_bytes().splitlines(keepends=True):
        assert line.endswith(b"\n")
        json.loads(line)
    assert shell("run", config).returncode == 0
    assert_each_row_once(shell, 100)
    assert simulator.stats()["executed"] == 100


def test_a_directory_that_is_moved_away_stops_the_run_soon_and_continues_once_it_is_back(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "lognormal", "mean_s": 1, "sigma": 0.5})
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 2000},
        submit={"max_in_flight": 50},
        sink={"fsync_s": 0.2},
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(50))
    moved = (shell.cwd / "runs/t").rename(shell.cwd / "elsewhere")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "was removed, moved or replaced while it was being written" in errors
    assert "Traceback" not in errors
    posts = simulator.stats()["posts"]
    assert posts < 2000
    shutil.rmtree(shell.cwd / "runs", ignore_errors=True)
    (shell.cwd / "runs").mkdir()
    moved.rename(shell.cwd / "runs/t")
    assert shell("run", config, "--limit", str(posts)).returncode == 0
    assert_each_row_once(shell, posts)
    assert simulator.stats()["executed"] == posts


def test_no_more_open_files_stops_the_run_with_3_and_loses_nothing(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    """`lost` closes connections, so that new ones are needed all the time."""
    simulator = simulate(faults={"get": {"lost": 0.5}}, latency={"type": "constant", "mean_s": 0.3})
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 200},
        submit={"max_in_flight": 60},
        poll={"strategy": "fixed"},  # all jobs again and again: as many connections as there may be
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(30))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (32, 32))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "at most 32 open files: no connection could be opened" in errors
    assert "Too many open files" in errors
    assert "ulimit -n" in errors
    assert shell("run", config).returncode == 0
    assert_each_row_once(shell, 200)
    assert simulator.stats()["executed"] == 200


def run_with_file_limits(shell, config, soft, hard):
    return subprocess.run(
        ["prlimit", f"--nofile={soft}:{hard}", *shell.command("run", config)],
        cwd=shell.cwd,
        env=shell.env,
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
def test_the_limit_of_open_files_is_raised_as_far_as_needed_or_the_run_refused(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(exchange_s=0.3)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 200}, submit={"concurrency": 150}
    )
    done = run_with_file_limits(shell, config, 128, 1024)
    assert done.returncode == 0, done.stderr
    assert simulator.stats()["peak_posts"] > 128
    config = shell.config(name="u", target={"base_url": simulator.base_url}, submit={"concurrency": 150})
    done = run_with_file_limits(shell, config, 128, 128)
    assert done.returncode == 2
    assert "need 234 open files, and this process may have 128" in done.stderr
    assert not (shell.cwd / "runs/u").exists()
