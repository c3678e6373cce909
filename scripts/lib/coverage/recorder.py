"""Records which lines and branches of the runner this process executes, and the processes forked from it.

SlipCover instruments modules as they are imported, so recording must start before the runner is imported.
Coverage.py would trace every line instead, which costs up to three times the CPU of what is measured.
"""

from __future__ import annotations

import atexit
import os
import pickle
from pathlib import Path
from typing import Final, cast

import slipcover

DIRECTORY: Final = "RUNNER_COVERAGE"
"""Environment variable with the directory that records are written to; without it nothing is recorded."""
SOURCE: Final = Path(__file__).resolve().parents[3] / "runner"
Executed = dict[str, set[int | tuple[int, int]]]
"""Executed lines and branches by file; a branch is a pair of lines."""
_KEEP_PROBES = -1


class Recorder:
    """Records what is executed, and writes it to a file of its own at the end of each process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Probes stay in the code: to replace code while it runs takes long, and a signal could interrupt it.
        self._probes = slipcover.Slipcover(branch=True, d_miss_threshold=_KEEP_PROBES, source=[str(SOURCE)])
        matcher = slipcover.FileMatcher(sources=[str(SOURCE)])
        slipcover.ImportManager(self._probes, matcher).__enter__()
        os.register_at_fork(after_in_child=self._probes.signal_child_process)
        atexit.register(self.save)

    def save(self) -> None:
        """Write what was executed since the last call; must be called before `os._exit`."""
        executed = cast("Executed", self._probes._get_newly_seen())  # noqa: SLF001 - get_coverage takes seconds
        if executed:
            path = self._directory / f"{os.getpid()}-{os.urandom(4).hex()}"
            path.write_bytes(pickle.dumps(dict(executed)))


def start_recording() -> Recorder | None:
    """Record from now on if the environment asks for it."""
    directory = os.environ.get(DIRECTORY)
    return Recorder(Path(directory)) if directory else None
