"""A worker that is a process on this machine."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import Final

from runner.engine.messages import Channel, Command, Event
from runner.errors import Problem, StoppedEarly

EXIT_S: Final = 5.0
"""Seconds that a process gets to exit after it has closed its channel."""
MAIN: Final = """
import sys
fd, sys.path[:] = int(sys.argv[1]), sys.argv[2:]
from runner.commands.worker import main
main(fd)
"""


class SubprocessWorker:
    """A `Worker` that is a child process, connected by a socket pair.

    The process shares the lock of the run directory, for as long as it lives.
    """

    def __init__(self, lock_fd: int) -> None:
        self._lock_fd = lock_fd
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel[Event] | None = None

    def __repr__(self) -> str:
        return f"<SubprocessWorker {self._process.pid if self._process else 'not started'}>"

    async def start(self) -> None:
        """Start the process. Raises `StoppedEarly`."""
        with ExitStack() as failed:
            try:
                ours, theirs = socket.socketpair()
                failed.callback(ours.close)
                with theirs:
                    self._process = _launch(theirs.fileno(), self._lock_fd)
            except OSError as error:
                what = f"a worker process cannot be started: {error.strerror}"
                hint = "lower it, then run the same command again"
                raise StoppedEarly(Problem(what, "engine.workers", hint)) from None
            failed.pop_all()
        self._channel = await Channel.open(ours, Event)

    def tell(self, command: Command) -> None:
        """Send a command; it is lost if the process has ended."""
        if self._channel is not None:
            self._channel.send(command)

    async def hear(self) -> Event | None:
        """Return the next event, or None when the process has ended."""
        return None if self._channel is None else await self._channel.receive()

    async def exit_reason(self) -> str:
        """Return the signal or exit code that ended the process; kill it if it does not exit by itself."""
        code = 0 if self._process is None else await asyncio.to_thread(_wait, self._process)
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def kill(self) -> None:
        """Kill the process, so that it does not outlive the session, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _launch(channel: int, lock: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own command, no shell
        # Not `-m`, which would look for every module in the current directory first.
        [sys.executable, "-P", "-c", MAIN, str(channel), *sys.path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(channel, lock),
        start_new_session=True,  # Ctrl-C at the terminal is for the coordinator
    )


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process that has closed its channel. Blocks."""
    try:
        return process.wait(EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
