"""Reads what a run and its service leave in files, and tells when a planned moment has come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scripts.lib.chaos.trial_plan import Moment

BATCH_INTENT: Final = b'{"event":"batch",'
INTENTS: Final = (b'{"event":"intent",', BATCH_INTENT)
BATCH_ENDS: Final = (b'{"event":"batch_accepted",', b'{"event":"batch_refused",')
ACCEPTED: Final = b'{"event":"accepted"'
FIRST_INTENTS: Final = 5
"""Number of intents of a process among which a moment of `intents` is chosen."""


class RunFiles:
    """The files of a run directory, which need not exist yet, and the state file of its service."""

    def __init__(self, run_dir: Path, state: Path, rows: int) -> None:
        self._run_dir = run_dir
        self.state = state
        self._rows = rows

    def files(self, log: str) -> list[Path]:
        """Return the files of a log, one for each worker that the run ever had."""
        return sorted(self._run_dir.glob(f"{log}*.jsonl"))

    def content(self, log: str) -> bytes:
        """Return the content of all files of a log; a file with a torn end comes last, where it shows."""
        contents = [path.read_bytes() for path in self.files(log)]
        contents.sort(key=lambda content: bool(content) and content[-1:] != b"\n")
        return b"".join(contents)

    def all_content(self) -> tuple[bytes, ...]:
        """Return the service's state, the results and the journal."""
        return self._state_content(), self.content("results"), self.content("journal")

    def count_ended(self, status: str) -> int:
        """Return the number of rows that ended with a status."""
        return self.content("results").count(b'"status":"%b","response"' % status.encode())

    def batches_in_doubt(self) -> int:
        """Return the number of batches of which the journal knows no fate."""
        journal = self.content("journal")
        journal = journal[: journal.rfind(b"\n") + 1]
        return journal.count(BATCH_INTENT) - sum(map(journal.count, BATCH_ENDS))

    def spooled(self, since: float = 0.0) -> list[str]:
        """Return the names of batch bodies on the disk that were written at Unix time `since` or later."""
        return [
            path.name for path in self._run_dir.glob(".batch-*") if not since or path.stat().st_mtime >= since
        ]

    @property
    def is_complete(self) -> bool:
        """Whether the summary says `complete`: all files are synced then, and no power cut tears them."""
        try:
            summary = json.loads((self._run_dir / "summary.json").read_bytes())
        except FileNotFoundError:
            return False
        return bool(summary["run"]["status"] == "complete")

    def watch(self, moment: Moment) -> Callable[[], bool]:
        """Return a function that tells whether the moment has come; progress counts from now on."""
        least = 1
        if moment.event not in ("time", "spooled"):
            before = self._count(moment)
            most = FIRST_INTENTS if moment.event == "intents" else self._rows - before
            least = before + 1 + int(moment.amount * most)
        due_mono = time.monotonic() + moment.amount if moment.event == "time" else None

        def has_come() -> bool:
            nonlocal due_mono
            if due_mono is None and self._count(moment) >= least:
                due_mono = time.monotonic() + moment.delay_s
            return due_mono is not None and time.monotonic() >= due_mono

        return has_come

    def _count(self, moment: Moment) -> int:
        match moment.event:
            case "results":
                return self.content("results").count(b"\n")
            case "intents":
                return sum(map(self.content("journal").count, INTENTS))
            case "spooled":
                return len(self.spooled())
            case _:
                return self._state_content().count(ACCEPTED)

    def _state_content(self) -> bytes:
        return self.state.read_bytes() if self.state.exists() else b""
