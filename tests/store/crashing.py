"""A program for `test_store_atomic.py`: does a job once for each of its system calls, and is killed there.

Usage: crashing.py JOB DIRECTORY SETTINGS. Each try has its own process and directory (`<call>-<moment>`).
SIGKILL comes before the call, after it, or (for a write) when half of it is done. It prints one line of JSON
per call, with the exit codes of its three tries; the last line is for a call that the job does not make.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.config import RunConfig
from runner.source import Survey
from runner.store import AppendLog, RunDir, replace_atomically

CALLS = [
    *((os, name) for name in ("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "close")),
    *((os, name) for name in ("replace", "rename", "unlink", "mkdir")),
    (fcntl, "flock"),
]
MOMENTS = ("before", "half", "after")
settings = json.loads(sys.argv[3])
write = os.write


class Caller:
    """Wraps the system calls: records each with its path, and kills this process at one of them."""

    def __init__(self, at: int, moment: str) -> None:
        self._at = at
        self._moment = moment
        self._names: dict[int, str] = {}
        self.seen: list[tuple[str, str]] = []
        for module, name in CALLS:
            setattr(module, name, self._wrapped(name, getattr(module, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "write":  # the system may write less than it is given
                arguments = arguments[0], bytes(arguments[1])[: settings["piece_bytes"]]
            target = arguments[1] if name in ("replace", "rename") else arguments[0]
            self.seen.append((name, self._names.get(target) or str(target)))
            if name == "write" and self._is_now("half"):
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                die()
            if self._is_now("before"):
                die()
            try:
                result = real(*arguments, **options)
            finally:  # also after a failed call
                if self._is_now("after"):
                    die()
            if name == "open":
                self._names[result] = str(target)
            return result

        return call

    def _is_now(self, moment: str) -> bool:
        return len(self.seen) == self._at and moment == self._moment


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# The jobs. What stands before the `yield` is preparation.


def replace(path: Path) -> Iterator[None]:
    """Replace a file."""
    (path / "file").write_bytes(settings["old"].encode())
    yield
    replace_atomically(path / "file", settings["new"].encode())


def create(path: Path) -> Iterator[None]:
    """Create a run."""
    config = RunConfig.model_validate(settings["config"])
    yield
    run_dir = RunDir(path / "runs" / "t")
    run_dir.lock()
    run_dir.create(config, Survey(rows=20, fingerprint="f" * 64), settings["key"])


def append(path: Path) -> Iterator[None]:
    """Append lines; the file `reported` has one byte for each line that was reported as written."""
    reported = os.open(path / "reported", os.O_CREAT | os.O_WRONLY)
    yield
    log = AppendLog(path / "log")
    for line in settings["lines"]:
        log.append(line.encode() + b"\n")
        write(reported, b".")
    log.sync()
    log.close()


def attempt(job: Callable[[Path], Iterator[None]], path: Path, at: int, moment: str) -> int:
    """Do the job in its own process, which saves its calls if it survives; return the exit code."""
    path.mkdir()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    work = job(path)
    next(work)
    caller = Caller(at, moment)
    next(work, None)
    (path / "calls.json").write_text(json.dumps(caller.seen))
    os._exit(0)


def main() -> None:
    job = {"replace": replace, "create": create, "append": append}[sys.argv[1]]
    at, ended = 0, {"before": -1}
    while ended["before"]:
        at += 1
        ended = {moment: attempt(job, Path(sys.argv[2], f"{at}-{moment}"), at, moment) for moment in MOMENTS}
        print(json.dumps([at, ended]), flush=True)


main()
