"""A program for `test_store_result_reader.py`: writes results of a run, as many as it is asked for.

Usage: appending.py RUN_DIR WORKERS. For each line of stdin it writes `ROWS_AT_ONCE` rows, each to the file of
worker `row % WORKERS`. It pauses with half a line written, so that a reader always sees one.
"""

from __future__ import annotations

import os
import sys
from itertools import count, islice
from pathlib import Path
from typing import Final

import msgspec

from runner.store import RunDir
from tests.store.samples import result

ROWS_AT_ONCE: Final = 100


def main() -> None:
    run_dir, workers = RunDir(Path(sys.argv[1])), int(sys.argv[2])
    files = [run_dir.files(worker).results for worker in range(workers)]
    fds = [os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY) for path in files]
    lines = (msgspec.json.encode(result(row)) + b"\n" for row in count())
    pieces = ((row % workers, piece) for row, line in enumerate(lines) for piece in (line[:60], line[60:]))
    os.write(fds[0], next(pieces)[1])
    for _ in sys.stdin:
        for worker, piece in islice(pieces, 2 * ROWS_AT_ONCE):
            os.write(fds[worker], piece)


if __name__ == "__main__":
    main()
