"""Print which lines and branches no test executed, and fail if the covered share is below the floor.

The floor is `fail-under` in the section `tool.slipcover` of pyproject.toml. The share counts lines and
branches together.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import slipcover

from scripts.lib.coverage.recorder import SOURCE, Executed

ROOT: Final = SOURCE.parent


def main() -> int:
    """Print the report of a directory of records, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.lib.coverage", description=__doc__)
    parser.add_argument("directory", type=Path, help="directory of the records")
    arguments = parser.parse_args()
    os.chdir(ROOT)  # file names in the report are relative to it
    report = merge(sorted(arguments.directory.iterdir()))
    slipcover.print_coverage(report, outfile=sys.stdout, skip_covered=True, missing_width=60)
    floor = floor_percent(ROOT / "pyproject.toml")
    covered = report["summary"]["percent_covered"]
    print(f"\ncovered: {covered:.2f} % of lines and branches; the floor is {floor:g} %")
    return int(covered < floor)


def merge(paths: Iterable[Path]) -> dict[str, Any]:
    """Return the report on the records of all processes, in the form of SlipCover."""
    merged = slipcover.Slipcover(branch=True, source=[str(SOURCE)])
    for path in paths:
        for name, places in read_record(path).items():
            merged.all_seen[name].update(places)
    report: dict[str, Any] = merged.get_coverage()
    return report


def read_record(path: Path) -> Executed:
    """Return what one process executed."""
    executed: Executed = pickle.loads(path.read_bytes())  # noqa: S301 - the tests wrote it
    return executed


def floor_percent(pyproject: Path) -> float:
    """Return the least share of lines and branches that must be covered, in percent."""
    settings = tomllib.loads(pyproject.read_text())["tool"]["slipcover"]
    return float(settings["fail-under"])


if __name__ == "__main__":
    sys.exit(main())
