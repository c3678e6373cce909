"""Run the quickstart and some tests with the lowest allowed dependencies, and with every other Python.

Each environment is a directory below .venv/versions and is kept for the next call. The lowest versions of all
dependencies are tried with the oldest Python that this machine has, and the newest ones with every other
Python from 3.11 on. The Python of .venv with the newest versions is left out: scripts/test runs on it. Exit
code 1 if anything fails; the whole output of what failed is printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from scripts.lib.versions.constraints import lowest_versions
from scripts.lib.versions.interpreters import OLDEST, Version, find_interpreters

ROOT: Final = Path(__file__).resolve().parents[3]
ENVIRONMENTS: Final = Path(".venv") / "versions"
"""Directory of the environments, relative to the root."""
TESTS: Final = (
    "tests/config",
    "tests/source",
    "tests/store/test_store_files.py",
    "tests/transport/test_transport_requests.py",
    "tests/transport/test_transport_answers.py",
    "tests/transport/test_transport_uploads.py",
)
"""A selection that is quick and uses every dependency, above all what is used of aiohttp and the SDK."""
OPTIONS: Final = ("--quiet", "--set", "source.count=200", "--set", "simulator.latency.mean_s=0.5")
"""Options of the quickstart, which make it shorter."""
OTHER_OPTIONS: Final = ("--set", "target.transport=openai", "--workers", "2")
"""Options of a second run, over the other transport and with several processes."""
TIMEOUT_S: Final = 300.0
"""Longest time for one environment, in seconds, its installation included."""


class Environment(NamedTuple):
    """An environment to try."""

    name: str
    python: Path
    constraints: Path | None = None


class Outcome(NamedTuple):
    """What came of an environment."""

    name: str
    returncode: int
    output: str
    wall_s: float


def main() -> int:
    """Try all environments, print a line for each, and return the exit code."""
    arguments = parse()
    interpreters = find_interpreters()
    interpreters.setdefault(current_version(), Path(sys.executable))
    constraints = write_constraints(ROOT / ENVIRONMENTS)
    environments = plan(dict(sorted(interpreters.items())), current_version(), constraints)
    if arguments.only:
        environments = [environment for environment in environments if environment.name in arguments.only]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = [print_outcome(outcome) for outcome in pool.map(run, environments)]
    return int(any(outcome.returncode for outcome in outcomes))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/check-versions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("only", nargs="*", metavar="NAME", help="environments to try, such as lowest or 3.12")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "--jobs", type=int, default=cores, metavar="N", help=f"environments tried at once ({cores})"
    )
    return parser.parse_args()


def current_version() -> Version:
    """Return the version of the Python of .venv."""
    return sys.version_info[0], sys.version_info[1]


def write_constraints(directory: Path) -> Path:
    """Write the constraints for the lowest versions to a file, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    constraints = directory / "lowest.txt"
    constraints.write_text("\n".join(lowest_versions(ROOT / "pyproject.toml")) + "\n")
    return constraints


def plan(interpreters: dict[Version, Path], current: Version, constraints: Path) -> list[Environment]:
    """Return the environments to try, given the interpreters by version, the oldest first."""
    oldest = next(iter(interpreters))
    if oldest != OLDEST:
        print(f"no Python {written(OLDEST)} was found: the lowest versions are tried with {written(oldest)}")
    environments = [Environment("lowest", interpreters[oldest], constraints)]
    environments += [Environment(written(v), path) for v, path in interpreters.items() if v != current]
    return environments


def written(version: Version) -> str:
    """Return a version as text."""
    return ".".join(map(str, version))


def run(environment: Environment) -> Outcome:
    """Create the environment if needed, and run the quickstart and the tests in it."""
    started_mono = time.monotonic()
    venv = ENVIRONMENTS / environment.name
    env = {
        **os.environ,
        "RUNNER_VENV": str(venv),
        "PYTHON": str(environment.python),
        "EXTRA": "test",
        "PIP_NO_COMPILE": "1",
    }
    if environment.constraints:
        env["PIP_CONSTRAINT"] = str(environment.constraints)
    runs = ENVIRONMENTS / f"{environment.name}-runs"
    quickstart = ["scripts/quickstart", *OPTIONS, "--set", f"sink.dir={runs}"]
    pytest = [str(venv / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    output = ""
    for command in (quickstart, [*quickstart, *OTHER_OPTIONS], pytest):
        returncode, printed = call(command, env)
        output += printed
        if returncode:
            break
    return Outcome(environment.name, returncode, output, time.monotonic() - started_mono)


def call(command: Sequence[str], env: dict[str, str]) -> tuple[int, str]:
    """Run a command in the root, and return its exit code and what it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        printed = error.stdout.decode(errors="replace") if error.stdout else ""
        return 1, f"{printed}\n{' '.join(command)} did not end in {TIMEOUT_S:g} s\n"
    return done.returncode, done.stdout


def print_outcome(outcome: Outcome) -> Outcome:
    """Print a line about an environment, and all output if something failed."""
    last = outcome.output.strip().rpartition("\n")[2]
    verdict = "FAILED" if outcome.returncode else "passed"
    print(f"{outcome.name}: {verdict} in {outcome.wall_s:.0f} s: {last}", flush=True)
    if outcome.returncode:
        print(outcome.output, flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
