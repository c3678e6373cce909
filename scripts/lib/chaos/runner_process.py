"""One `runner run` of a trial: started, watched, and ended for certain."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

POLL_S: Final = 0.01
"""Seconds between two polls of a process and of its files."""
BETWEEN_SIGNALS_S: Final = 0.2
ENDING_S: Final = 20.0
"""Seconds that a process has to end after a signal before it is killed."""


class RunnerProcess:
    """A process of the run; a context manager that leaves nothing running behind it."""

    def __init__(
        self, number: int, command: list[str], directory: Path, env: dict[str, str], *, has_workers: bool
    ) -> None:
        self.number = number
        self.has_workers = has_workers
        self._output = directory / f"output-{number}.txt"
        with self._output.open("wb") as output:
            self.popen = subprocess.Popen(
                command, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._started_mono = time.monotonic()

    def __enter__(self) -> Self:
        """Return the process, which is already running."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Kill the process if it still runs."""
        self.kill()

    @property
    def age_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_mono

    @property
    def returncode(self) -> int:
        """Exit code; may be read only once the process has ended."""
        assert self.popen.returncode is not None
        return self.popen.returncode

    @property
    def last_output(self) -> str:
        """Last 1,000 characters that the process printed."""
        return self._output.read_text(errors="replace")[-1000:].strip()

    def has_printed(self, *texts: str) -> bool:
        """Return True if the output contains at least one of the texts."""
        output = self._output.read_text(errors="replace")
        return any(text in output for text in texts)

    def ends_within(self, seconds: float) -> bool:
        """Wait at most `seconds`, and return True once the process has ended."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill_worker(self) -> bool:
        """Kill one worker; return False if there is none."""
        workers = self._workers()
        for pid in workers[-1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(workers)

    def end_with(self, *signals: str) -> bool:
        """Send signals one after the other, with a pause; return True if SIGKILL ended the process."""
        for nth, name in enumerate(signals, 1):
            if name == "SIGKILL":
                break
            if self.popen.poll() is None:
                self.popen.send_signal(signal.Signals[name])
            self.ends_within(BETWEEN_SIGNALS_S if nth < len(signals) else ENDING_S)
        return self.kill()

    def kill(self) -> bool:
        """Kill the process, wait until its workers have ended too, and return True if it was still alive."""
        workers = self._workers()
        was_alive = self.popen.poll() is None
        self.popen.kill()
        was_killed = self.popen.wait() == -signal.SIGKILL
        while any(map(_is_alive, workers)):
            time.sleep(POLL_S)
        return was_killed and was_alive

    def _workers(self) -> list[int]:
        """Return the process ids of the workers."""
        command = ["pgrep", "-P", str(self.popen.pid), "-f", "commands.worker"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        return [int(pid) for pid in found]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
