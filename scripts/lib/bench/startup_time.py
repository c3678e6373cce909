"""Wall time until the command prints its help, and until it reports a wrong config."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from scripts.lib.bench.pinned_processes import client_cores, on_cores
from scripts.lib.bench.rounds import Findings, plural, spread, take_turns

HELP: Final = "runner --help"
WRONG: Final = "runner run, a wrong config"


def measure_startup(rounds: int) -> Findings:
    """Measure the wall time of the installed command. Raises SystemExit if it gives another exit code."""
    command = Path(sys.executable).with_name("runner")
    if not command.exists():
        raise SystemExit(f"{command} is missing: install the project first")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        config = Path(directory) / "wrong.yaml"
        config.write_text("name: wrong\nsubmit: {concurency: 1}\n")
        calls = {HELP: ([str(command), "--help"], 0), WRONG: ([str(command), "run", str(config)], 2)}
        for name in calls:  # the first call, which reads and compiles files, does not count
            wall_s(*calls[name])
        taken = take_turns(tuple(calls), rounds, lambda name: wall_s(*calls[name]))
    return Findings(
        how=f"wall time of the installed command, {plural(rounds, 'call')} of each in turns",
        rows=[{"call": name, "wall_s": spread(times)} for name, times in taken.items()],
        figures={"help": spread(taken[HELP])},
    )


def wall_s(command: list[str], expected: int) -> float:
    """Return the wall time of a command in seconds. Raises SystemExit if its exit code is not `expected`."""
    with on_cores(client_cores()):
        started_mono = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        ended_mono = time.perf_counter()
    if done.returncode != expected:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return ended_mono - started_mono
