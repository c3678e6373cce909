"""The processes of a benchmark: a simulator on one core, a client on others, and what the client used."""

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
from typing import Any

import msgspec

KEY_ENV, KEY = "BENCHMARK_KEY", "sk-of-no-service"
LOOK_S = 0.02
"""Between looks whether the client has ended, and at its memory. What grew since the last look is missed,
unless the client is one process: that one's peak the kernel tells at its end."""

POSTS, GETS = ("posts", "batch_posts"), ("gets", "batch_polls", "result_gets")
"""Exchanges by the names of the simulator's stats."""

_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER_CORES = set(_CORES[-1:]) if len(_CORES) > 1 else set()
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def client_cores(processes: int = 1) -> set[int]:
    """Cores for a client: one for each process, as far as there are any beside the simulator's.

    Empty where nothing can be pinned.
    """
    return set(_CORES[:-1][:processes])


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """What is started in this block runs on these cores: a child inherits them. Empty: on any."""
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
    """User and system, of the process and of all children that it has waited for."""
    wall_s: float
    peak_bytes: int
    """The peak of each process of its tree, summed up. Pages that processes share count in each of them."""


class Trial(msgspec.Struct, frozen=True):
    """A client's run: what it used, and what the simulator saw of it."""

    jobs: int
    usage: Usage
    posts: int
    gets: int


class Service:
    """A simulator in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], base_url: str) -> None:
        self._process = process
        self.base_url = base_url

    def stats(self) -> dict[str, Any]:
        url = self.base_url.removesuffix("/v1") + "/simulator/stats"
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - it is ours
            stats: dict[str, Any] = json.load(answer)
        return stats

    def peak_bytes(self) -> int:
        """Peak memory so far; 0 where the system does not tell."""
        return _peak_bytes(self._process.pid)


@contextmanager
def serving(settings: Mapping[str, Any]) -> Iterator[Service]:
    """A simulator with these settings, on its core, for as long as the block lasts."""
    command = [sys.executable, "-m", "runner", "simulate", "--port", "0", "--parent-pipe"]
    command += ["--settings-json", json.dumps(settings)]
    with on_cores(SERVER_CORES):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:  # closes its stdin, whereupon it ends, and waits for it
        assert process.stdout
        line = process.stdout.readline()
        if not line.startswith("simulator listening on "):
            raise SystemExit("the simulator does not start")
        yield Service(process, line.split()[-1])


def measured(command: Sequence[str], cores: set[int]) -> Usage:
    """Run a command to its end on these cores. Raises SystemExit, with its last words, where it fails."""
    with tempfile.TemporaryFile() as words:
        began = time.perf_counter()
        with on_cores(cores):
            process = subprocess.Popen(
                command,
                env={**os.environ, KEY_ENV: KEY},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
            )
        try:
            cpu_s, peaks = _follow(process)
        finally:
            process.kill()  # does nothing to one that has ended
        wall_s = time.perf_counter() - began
        if process.returncode:
            words.seek(0)
            said = words.read()[-2_000:].decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return Usage(cpu_s=cpu_s, wall_s=wall_s, peak_bytes=sum(peaks.values()))


def trial(service: Service, command: Sequence[str], jobs: int, cores: set[int]) -> Trial:
    """Run a client of this simulator to its end."""
    before = service.stats()
    usage = measured(command, cores)
    after = service.stats()
    posts, gets = (sum(after[name] - before[name] for name in names) for names in (POSTS, GETS))
    return Trial(jobs=jobs, usage=usage, posts=posts, gets=gets)


def _follow(process: subprocess.Popen[bytes]) -> tuple[float, dict[int, int]]:
    """Wait for its end: CPU seconds, and the peak memory of each process of its tree."""
    peaks: dict[int, int] = {}
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        for pid in _tree(process.pid):
            peaks[pid] = max(peaks.get(pid, 0), _peak_bytes(pid))
        time.sleep(LOOK_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    if len(peaks) <= 1:
        peaks[process.pid] = max(peaks.get(process.pid, 0), used.ru_maxrss * _RSS_UNIT)
    return used.ru_utime + used.ru_stime, peaks


def _tree(pid: int) -> Iterator[int]:
    """A process and all under it; on systems without /proc itself alone."""
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
