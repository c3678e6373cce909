"""Processes of a benchmark: a simulator on one core, a client on others, and what the client used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from scripts.lib.bench.checkout import HERE

KEY_ENV: Final = "BENCHMARK_KEY"
KEY: Final = "sk-of-no-service"
POLL_S: Final = 0.02
"""Seconds between two polls of a client's end and memory.

Memory that grew after the last poll is missed, unless the client is a single process: for that one the kernel
reports the peak at its end.
"""
POSTS: Final = ("posts", "batch_posts")
GETS: Final = ("gets", "batch_polls", "result_gets")
"""Exchanges by their names in the simulator's stats."""

_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER_CORES: Final = set(_CORES[-1:]) if len(_CORES) > 1 else set()
"""Cores of simulator and harness; empty if nothing can be pinned."""
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def client_cores(processes: int = 1) -> set[int]:
    """Return the cores of a client: one for each process, as far as the simulator leaves any.

    Empty if nothing can be pinned.
    """
    return set(_CORES[:-1][:processes])


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Pin what is started in this block to these cores, for a child inherits them; empty means any core."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Usage(msgspec.Struct, frozen=True):
    """What a client used."""

    cpu_s: float
    """User and system CPU seconds of the process and of all children that it waited for."""
    wall_s: float
    peak_bytes: int
    """Sum of the peak memory of each process of the client. Pages that are shared count for each process."""


class ClientRun(msgspec.Struct, frozen=True):
    """What a client used for a number of jobs, and which exchanges the simulator saw."""

    jobs: int
    usage: Usage
    posts: int
    gets: int


class PinnedSimulator:
    """A simulator in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], base_url: str) -> None:
        self._process = process
        self.base_url: Final = base_url

    def stats(self) -> dict[str, Any]:
        """Return what `/simulator/stats` says."""
        url = self.base_url.removesuffix("/v1") + "/simulator/stats"
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - the address is our own
            stats: dict[str, Any] = json.load(answer)
        return stats

    def peak_bytes(self) -> int:
        """Return the peak memory so far; 0 if the system does not report it."""
        return _peak_bytes(self._process.pid)


@contextmanager
def serving(settings: Mapping[str, Any]) -> Iterator[PinnedSimulator]:
    """Run this checkout's simulator with these settings, on its core, for the length of the block."""
    command = HERE.command("simulate", "--port", "0", "--parent-pipe")
    command += ["--settings-json", json.dumps(settings)]
    with on_cores(SERVER_CORES):
        process = subprocess.Popen(
            command, env=HERE.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with process:  # at the end closes its stdin, which ends it, and waits for it
        assert process.stdout
        line = process.stdout.readline()
        if not line.startswith("simulator listening on "):
            raise SystemExit("the simulator does not start")
        yield PinnedSimulator(process, line.split()[-1])


def measure_client(
    simulator: PinnedSimulator, command: Sequence[str], jobs: int, cores: set[int], env: Mapping[str, str]
) -> ClientRun:
    """Run a client of this simulator to its end."""
    before = simulator.stats()
    usage = measure_command(command, cores, env)
    after = simulator.stats()
    posts, gets = (sum(after[name] - before[name] for name in names) for names in (POSTS, GETS))
    return ClientRun(jobs=jobs, usage=usage, posts=posts, gets=gets)


def measure_command(command: Sequence[str], cores: set[int], env: Mapping[str, str] = os.environ) -> Usage:
    """Run a command to its end on these cores. Raises SystemExit with its last output if it fails."""
    with tempfile.TemporaryFile() as output:
        started_mono = time.perf_counter()
        with on_cores(cores):
            process = subprocess.Popen(
                command,
                env={**env, KEY_ENV: KEY},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )
        try:
            cpu_s, peaks = _follow(process)
        finally:
            process.kill()  # does nothing to a process that has ended
        wall_s = time.perf_counter() - started_mono
        if process.returncode:
            output.seek(0)
            text = output.read()[-2_000:].decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
    return Usage(cpu_s=cpu_s, wall_s=wall_s, peak_bytes=sum(peaks.values()))


def _follow(process: subprocess.Popen[bytes]) -> tuple[float, dict[int, int]]:
    """Wait for a process, and return its CPU seconds and the peak memory of each process of its tree."""
    peaks: dict[int, int] = {}
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        for pid in _tree(process.pid):
            peaks[pid] = max(peaks.get(pid, 0), _peak_bytes(pid))
        time.sleep(POLL_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    if len(peaks) <= 1:
        peaks[process.pid] = max(peaks.get(process.pid, 0), used.ru_maxrss * _RSS_UNIT)
    return used.ru_utime + used.ru_stime, peaks


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants; without /proc only the process itself."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from _tree(int(child))


def _peak_bytes(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return 0
