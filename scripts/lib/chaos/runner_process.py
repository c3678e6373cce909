"""One `runner run` of a trial: watched, and gone after its block."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

GLANCE_S: Final = 0.01
BETWEEN_S: Final = 0.2
"""Two signals."""
ENDING_S: Final = 20.0
"""In which a signal ends a run in order."""


class Process:
    """`with Process(…) as process:` it is gone after the block."""

    def __init__(
        self, number: int, command: list[str], directory: Path, env: dict[str, str], *, has_workers: bool
    ) -> None:
        self.number = number
        self.has_workers = has_workers
        self._said = directory / f"said-{number}.txt"
        with self._said.open("wb") as said:
            self.popen = subprocess.Popen(
                command, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end_with_kill()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._started

    @property
    def returncode(self) -> int:
        """Once it has ended."""
        assert self.popen.returncode is not None
        return self.popen.returncode

    @property
    def last_words(self) -> str:
        return self._said.read_text(errors="replace")[-1000:].strip()

    def said(self, *any_of: str) -> bool:
        text = self._said.read_text(errors="replace")
        return any(words in text for words in any_of)

    def ended_within(self, seconds: float) -> bool:
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def workers(self) -> list[int]:
        """Process ids."""
        command = ["pgrep", "-P", str(self.popen.pid), "-f", "commands.worker"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        return [int(pid) for pid in found]

    def kill_a_worker(self) -> bool:
        """Whether there was one to be killed."""
        workers = self.workers
        for pid in workers[-1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(workers)

    def end_with(self, *signals: str) -> bool:
        """Send one after the other, so that the second finds the first at work; as `end_with_kill`."""
        for nth, name in enumerate(signals, 1):
            if name == "SIGKILL":
                break
            if self.popen.poll() is None:
                self.popen.send_signal(signal.Signals[name])
            self.ended_within(BETWEEN_S if nth < len(signals) else ENDING_S)
        return self.end_with_kill()

    def end_with_kill(self) -> bool:
        """Whether it was alive, and SIGKILL is what ended it; its workers have ended, too."""
        workers = self.workers
        was_alive = self.popen.poll() is None
        self.popen.kill()
        was_killed = self.popen.wait() == -signal.SIGKILL
        while any(map(_is_alive, workers)):
            time.sleep(GLANCE_S)
        return was_killed and was_alive


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
