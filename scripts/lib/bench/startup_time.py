"""How long the command takes to say something: the help, and that a config is wrong."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.lib.bench.pinned_processes import client_cores, on_cores
from scripts.lib.bench.rounds import Measured, plural, spread, take_turns

HELP, WRONG = "runner --help", "runner run, a wrong config"


def start(rounds: int) -> Measured:
    """Wall time of the installed command. Raises SystemExit where it does not do as it should."""
    command = Path(sys.executable).with_name("runner")
    if not command.exists():
        raise SystemExit(f"{command} is missing: install the project first")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        config = Path(directory) / "wrong.yaml"
        config.write_text("name: wrong\nsubmit: {concurency: 1}\n")
        calls = {HELP: ([str(command), "--help"], 0), WRONG: ([str(command), "run", str(config)], 2)}
        for name in calls:  # not the first time, when files are read and compiled
            wall_s(*calls[name])
        taken = take_turns(tuple(calls), rounds, lambda name: wall_s(*calls[name]))
    return Measured(
        how=f"wall time of the installed command, {plural(rounds, 'call')} of each in turns",
        rows=[{"call": name, "wall_s": spread(times)} for name, times in taken.items()],
        figures={"help": spread(taken[HELP])},
    )


def wall_s(command: list[str], expected: int) -> float:
    with on_cores(client_cores()):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        ended = time.perf_counter()
    if done.returncode != expected:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return ended - began
