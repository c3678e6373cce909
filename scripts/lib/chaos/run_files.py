"""What a run and its service leave in files, and what of it is waited for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scripts.lib.chaos.trial_plan import Moment

BATCH: Final = b'{"event":"batch",'
INTENTS: Final = (b'{"event":"intent",', BATCH)
ACCEPTED: Final = b'{"event":"accepted"'
FIRST_INTENTS: Final = 5
"""Of a process: one of these is waited for."""


class Traces:
    """Reads the directory of a run, which need not be there, and `state`, the memory of the service."""

    def __init__(self, run: Path, state: Path, rows: int) -> None:
        self._run = run
        self.state = state
        self._rows = rows

    def files(self, log: str) -> list[Path]:
        """Those of all workers that the run ever had."""
        return sorted(self._run.glob(f"{log}*.jsonl"))

    def content(self, log: str) -> bytes:
        """Of all its files; what is torn comes last, where it shows."""
        contents = [path.read_bytes() for path in self.files(log)]
        return b"".join(sorted(contents, key=lambda content: bool(content) and not content.endswith(b"\n")))

    def all_content(self) -> tuple[bytes, ...]:
        """Of all that tells what was done."""
        return self._memory(), self.content("results"), self.content("journal")

    def count_ended(self, status: str) -> int:
        """Rows that ended so."""
        return self.content("results").count(b'"status":"%b","response"' % status.encode())

    def in_doubt(self) -> int:
        """Batches whose fate is not on record."""
        known = (b'{"event":"batch_accepted",', b'{"event":"batch_refused",')
        journal = self.content("journal")
        journal = journal[: journal.rfind(b"\n") + 1]
        return journal.count(BATCH) - sum(map(journal.count, known))

    def spooled(self, since: float = 0.0) -> list[str]:
        """Bodies of batches that lie on the disk, written at `since` or later, in Unix seconds."""
        return [
            path.name for path in self._run.glob(".batch-*") if not since or path.stat().st_mtime >= since
        ]

    @property
    def is_told(self) -> bool:
        """The summary of a complete run is written when all else is on the disk, where nothing tears it."""
        try:
            return bool(json.loads((self._run / "summary.json").read_bytes())["run"]["status"] == "complete")
        except FileNotFoundError:
            return False

    def reached(self, moment: Moment) -> Callable[[], bool]:
        """Tells whether the moment has come; counts from now."""
        least = 1
        if moment.of not in ("time", "spooled"):
            before = self._count(moment)
            most = FIRST_INTENTS if moment.of == "intents" else self._rows - before
            least = before + 1 + int(moment.amount * most)
        then = time.monotonic() + moment.amount if moment.of == "time" else None

        def is_reached() -> bool:
            nonlocal then
            if then is None and self._count(moment) >= least:
                then = time.monotonic() + moment.then_s
            return then is not None and time.monotonic() >= then

        return is_reached

    def _count(self, moment: Moment) -> int:
        match moment.of:
            case "results":
                return self.content("results").count(b"\n")
            case "intents":
                return sum(map(self.content("journal").count, INTENTS))
            case "spooled":
                return len(self.spooled())
            case _:
                return self._memory().count(ACCEPTED)

    def _memory(self) -> bytes:
        return self.state.read_bytes() if self.state.exists() else b""
