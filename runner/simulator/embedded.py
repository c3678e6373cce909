"""The simulator as a process beside a run, started and stopped with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final, Self

from runner.config.simulation import Simulator
from runner.errors import ConfigError, Problem
from runner.simulator.http.server import READY

_READY_S: Final = 30.0
_STOP_S: Final = 3.0


class Embedded:
    """A simulator process for the length of an `async with` block, which raises ConfigError.

    The process has a session of its own: Ctrl-C at the terminal reaches only the run, which may still want
    to poll. It ends when its stdin does, so it never outlives a run that was killed.
    """

    def __init__(self, settings: Simulator, state_path: Path | None = None) -> None:
        self._settings = settings
        self._state_path = state_path
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self.base_url = ""
        """Address of the simulator, within the block."""

    def command(self) -> list[str]:
        """Return the command line of the process."""
        command = [sys.executable, "-m", "runner", "simulate", "--port", "0", "--parent-pipe"]
        command += ["--settings-json", self._settings.model_dump_json()]
        if self._state_path is not None:
            command += ["--state", str(self._state_path)]
        return command

    @property
    def pid(self) -> int | None:
        """Id of the process, or None outside the block."""
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        try:
            self.base_url = await self._ready(self._launch())
        except BaseException:  # also after a signal, no process may be left behind
            await asyncio.shield(asyncio.to_thread(self._stop, 0.0))
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.shield(asyncio.to_thread(self._stop, _STOP_S))

    def _launch(self) -> subprocess.Popen[bytes]:
        # A file instead of a pipe: nobody reads it while the simulator runs, and a full pipe would block it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by _stop
        self._process = subprocess.Popen(  # noqa: S603  # our own command, no shell
            self.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        return self._process

    async def _ready(self, process: subprocess.Popen[bytes]) -> str:
        try:
            async with asyncio.timeout(_READY_S):
                line = await asyncio.to_thread(_first_line, process)
        except TimeoutError:
            raise self._failure(f"did not start within {_READY_S:g} s") from None
        if not line.startswith(READY):
            raise self._failure("did not start")
        return line.removeprefix(READY)

    def _failure(self, what: str) -> ConfigError:
        lines: list[str] = []
        if self._errors is not None:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ConfigError(Problem(f"the simulator {what}{': ' if last else ''}{last}", "simulator"))

    def _stop(self, grace_s: float) -> None:
        """End the process and close its streams. Blocks; safe to repeat."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        errors, self._errors = self._errors, None
        if errors is not None:
            errors.close()


def _first_line(process: subprocess.Popen[bytes]) -> str:
    """Return the first line that the process prints, or "" if it ends before. Blocks."""
    line = b"" if process.stdout is None else process.stdout.readline()
    if not line:
        process.wait(_READY_S)
    return line.decode(errors="replace").strip()
