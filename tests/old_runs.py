"""Run directories that version 0.1.0 wrote, each left behind by a kill. This version must continue them.

`run-0.1.0a` has one worker and was killed during a `--retry`, `run-0.1.0a-batch` is in batch mode, and
`run-0.1.0a-workers` has two workers. All ran against the embedded simulator with the key `KEY`. Their times
were moved, so that the first session began at `BEGAN`; nothing else was edited.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Final

from runner.store import RunDir

DATA: Final = Path(__file__).with_name("data")
KEY: Final = "sk-test-old"
BEGAN: Final = 1_750_000_000
"""When the first session of each run began, in Unix seconds."""
NAMES: Final = ("run-0.1.0a", "run-0.1.0a-batch", "run-0.1.0a-workers")
ROWS: Final = 20
_TIME = re.compile(r"(?<=[:\s])17500\d{5}(?:\.\d+)?")


def copy_run(name: str, parent: Path, age_s: float | None = None) -> RunDir:
    """Copy a run directory into `parent`, which is created if it is missing.

    With `age_s` all times in the copy move, so that its first session began that many seconds ago.
    """
    run_dir = RunDir(parent / name)
    shutil.copytree(DATA / name, run_dir.path)
    if age_s is not None:
        shift_s = time.time() - age_s - BEGAN
        for path in run_dir.path.iterdir():
            path.write_text(_TIME.sub(lambda found: repr(float(found[0]) + shift_s), path.read_text()))
    return run_dir
