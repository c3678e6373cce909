"""Processes that begin with everything imported, because they are forked from one that did it once.

Most of what a short command costs is its imports. A forked process is like any other: it has its own streams,
environment, directory and signals, and ends as an interpreter ends. `FRESH=1` in the environment
gives every test a new interpreter instead.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
LENGTH = struct.Struct("!Q")


class Forked:
    """A forked process, with as much of `subprocess.Popen` as the tests use. Its streams are text."""

    def __init__(
        self, arguments: Sequence[str], pid: int, end: int, stdout: IO[str], stderr: IO[str] | None
    ) -> None:
        self.args = arguments
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        self._end = end
        """Descriptor that its exit code comes from."""

    def poll(self) -> int | None:
        return self._poll(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it writes to stdout and stderr until it ends, since they were last read."""
        deadline = None if timeout is None else time.monotonic() + timeout
        said = {stream: "" for stream in (self.stdout, self.stderr) if stream and not stream.closed}

        def read(stream: IO[str]) -> None:
            said[stream] = stream.read()

        readers = [threading.Thread(target=read, args=(stream,), daemon=True) for stream in said]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        for stream in said:
            stream.close()
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return said.get(self.stdout, ""), said.get(self.stderr, "") if self.stderr else ""

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _poll(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], timeout)[0]:
            self.returncode = int(os.read(self._end, 16))
            os.close(self._end)
        return self.returncode


class Forge:
    """Starts `runner` with given arguments, by a process that has imported all of it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )

    def start(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], *, with_stderr: bool = True
    ) -> Forked:
        """Fork a process; without `with_stderr`, its stderr is that of the tests."""
        ours, theirs = zip(*(os.pipe() for _ in range(3 if with_stderr else 2)), strict=True)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
            end, stdout, *stderr = theirs
            streams = [end, nothing.fileno(), stdout, *(stderr or [2])]
            request = pickle.dumps((list(arguments), str(cwd), dict(env)))
            socket.send_fds(self._control, [LENGTH.pack(len(request))], streams)
            self._control.sendall(request)
            (pid,) = LENGTH.unpack(receive(self._control, LENGTH.size))
        for fd in theirs:
            os.close(fd)
        end, *said = ours
        texts = [os.fdopen(fd, encoding="utf-8") for fd in said]
        return Forked(arguments, pid, end, texts[0], texts[1] if with_stderr else None)

    def close(self) -> None:
        self._control.close()
        self._server.wait(30)


def receive(control: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        more = control.recv(size - len(content))
        if not more:
            raise EOFError("the process that forks the others has ended")
        content += more
    return content


def serve(control: socket.socket) -> None:
    """Fork a process for each request, and report how it ended. Returns only in the forked processes."""
    woken, wake = os.pipe()
    for fd in (woken, wake):
        os.set_blocking(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at the terminal it is for the tests, which then close
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    ends: dict[int, int] = {}
    while True:
        waited_for: list[socket.socket | int] = [control, woken]
        ready, _, _ = select.select(waited_for, [], [])
        if woken in ready:
            os.read(woken, 4096)
            report_ends(ends)
        if control not in ready:
            continue
        length, streams, _, _ = socket.recv_fds(control, LENGTH.size, 4)
        if not length:
            os._exit(0)
        arguments, cwd, env = pickle.loads(receive(control, *LENGTH.unpack(length)))  # noqa: S301 - ours
        pid = os.fork()
        if not pid:
            become(control, streams[1:], arguments, cwd, env)
            return
        ends[pid], *others = streams
        for fd in others:
            os.close(fd)
        control.sendall(LENGTH.pack(pid))


def report_ends(ends: dict[int, int]) -> None:
    """Send the exit code of each process that has ended."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            end = ends.pop(pid)
            with suppress(BrokenPipeError):
                os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(end)


def become(
    control: socket.socket, streams: list[int], arguments: list[str], cwd: str, env: dict[str, str]
) -> None:
    """Turn this process into one that was started with these arguments, streams and environment, in `cwd`."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    control.detach()
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    os.closerange(3, 1024)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - by its number, and for good
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - as above
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    sys.path[0] = cwd


def import_everything() -> None:
    package: Any = importlib.import_module("runner")
    for module in pkgutil.walk_packages(package.__path__, "runner."):
        if module.name != "runner.__main__":
            importlib.import_module(module.name)
    importlib.import_module("openai.resources.responses")  # the SDK imports it when it is first used
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    recorder = None
    if "RUNNER_COVERAGE" in os.environ:
        from scripts.lib.coverage.recorder import start_recording

        recorder = start_recording()
    import_everything()
    if recorder:
        recorder.save()
    serve(socket.socket(fileno=int(sys.argv[1])))
    from runner.cli import main

    sys.exit(main())
