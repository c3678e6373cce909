"""One worker process as the main process sees it: started, spoken to, replaced."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import Final

from runner.engine.messages import Channel, News, Order
from runner.errors import Problem, StoppedEarly

MAIN: Final = """
import sys
fd, sys.path[:] = int(sys.argv[1]), sys.argv[2:]
from runner.engine.worker import main
main(fd)
"""


class WorkerProcess:
    """Worker number `number`, in its first life or a later one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lives = 0
        self.has_ended = False
        """In order: it said so, with its last report before."""
        self.is_lost = False
        """It died, and nobody goes on in its place."""
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel[News] | None = None

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.number}, life {self.lives}{', ended' if self.has_ended else ''}>"

    @property
    def life(self) -> tuple[int, int]:
        """Its name among all processes of the session."""
        return self.number, self.lives

    async def start(self, lock: int) -> None:
        """Start the process, or its successor. It holds the run directory, too, for as long as it lives.

        Raises `StoppedEarly`.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _launch(theirs.fileno(), lock)
            except OSError as error:
                ours.close()
                what = f"a worker process cannot be started: {error.strerror}"
                raise StoppedEarly(Problem(what, "engine.workers", "use fewer, and continue")) from None
        self.lives += 1
        self._channel = await Channel.open(ours, News)

    def tell(self, order: Order) -> None:
        """Lost where the process has ended."""
        if self._channel is not None:
            self._channel.send(order)

    async def hear(self) -> News | None:
        """Its next news; None when it has died."""
        return None if self._channel is None else await self._channel.receive()

    async def hang_up(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def bury(self) -> str:
        """How a process that has closed its channel came to its end; blocking for a moment."""
        code = 0 if self._process is None else self._process.wait()
        return f"{signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """It does not outlive the session; one that has ended is not harmed."""
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
        start_new_session=True,  # Ctrl-C at the terminal is for the main process
    )
