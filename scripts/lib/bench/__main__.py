"""What it costs the client: CPU, wall time and memory per job, as ratios measured in one run.

subjects:
  candidates  CPU per job of a script in the shape of the vendor's guide, of bare aiohttp, and of the runner
              on both transports: the same exchanges against the same simulator
  in-flight   CPU per job with 500, 5,000 and 50,000 jobs in flight
  workers     CPU per job with one worker process and with two
  modes       CPU per row and peak memory of the same rows as background jobs and in batches: ten minutes
  start       wall time of `runner --help`, and of a wrong config
  memory      peak memory for 50,000 and for 1,000,000 rows: ten minutes, 4 GB in TMPDIR
  polling     polls spent and lag, by polling strategy: a program of its own, takes the remaining arguments
  report      nothing is measured: tells, and with --plot draws, what the FILE of --json holds

Without a subject: candidates, in-flight, workers and start, in about a quarter of an hour. With --quick and
without a subject: candidates, in-flight and start at small sizes, within a minute, for a look and not for a
verdict. Leave the machine alone meanwhile. Results go to stdout as Markdown, progress to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from scripts.lib.bench.candidates import candidates
from scripts.lib.bench.goals import IN_FLIGHT, ROWS, ROWS_IN_FLIGHT, Judged, judged
from scripts.lib.bench.in_flight import in_flight
from scripts.lib.bench.machine import Steal, ran_on
from scripts.lib.bench.memory import memory
from scripts.lib.bench.modes import modes
from scripts.lib.bench.pinned_processes import SERVER_CORES, on_cores
from scripts.lib.bench.rounds import Measured, tell
from scripts.lib.bench.startup_time import start
from scripts.lib.bench.tables import findings, verdicts
from scripts.lib.bench.workers import workers


class Plan(msgspec.Struct, frozen=True):
    """How much of a subject to measure."""

    rounds: int
    sizes: tuple[int, int] = (0, 0)
    """Jobs of the smaller and of the larger run."""
    levels: tuple[int, ...] = ()
    """Of what the subject is about: jobs in flight, or workers."""


FULL = {
    "candidates": Plan(8, (500, 5_000)),
    "in-flight": Plan(3, (1_000, 16_000), IN_FLIGHT),
    "workers": Plan(6, (2_000, 20_000), (1, 2)),
    "modes": Plan(2, (25_000, 250_000)),
    "start": Plan(20),
    "memory": Plan(1, ROWS, (ROWS_IN_FLIGHT,)),
}
SMALL = {
    "candidates": Plan(2, (200, 1_000)),
    "in-flight": Plan(1, (500, 4_500), (500, 2_000)),
    "workers": Plan(2, (1_000, 6_000), (1, 2)),
    "modes": Plan(1, (1_000, 6_000)),
    "start": Plan(10),
    "memory": Plan(1, (5_000, 50_000), (2_000,)),
}
USUAL = ("candidates", "in-flight", "workers", "start")
QUICK = ("candidates", "in-flight", "start")
REPORT = "report"


class Known(msgspec.Struct):
    """What the file of --json holds."""

    ran_on: dict[str, list[str]] = {}
    """By subject: each may have been measured on another day."""
    subjects: dict[str, Measured] = {}
    goals: list[Judged] = []


def main() -> int:
    if sys.argv[1:2] == ["polling"]:
        program = "scripts.lib.bench.polling"
        os.execv(sys.executable, [sys.executable, "-m", program, *sys.argv[2:]])  # noqa: S606 - no shell is wanted
    arguments = parse()
    known = Known()
    if arguments.json and arguments.json.exists():
        known = msgspec.json.decode(arguments.json.read_bytes(), type=Known)
    if REPORT in arguments.subjects:
        for name, measured in known.subjects.items():
            print(findings(name, measured), *known.ran_on[name], sep="\n", end="\n\n")
    else:
        measure_all(known, arguments)
    print(verdicts(judged(known.subjects)), end="")
    if arguments.plot:
        from scripts.lib.bench.plot import draw

        print(f"drawn: {draw(known.subjects, arguments.polling, arguments.plot)}", file=sys.stderr)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", type=subject, metavar="SUBJECT")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round or two")
    parser.add_argument("--rounds", type=positive, metavar="N", help="rounds of each subject")
    parser.add_argument(
        "--sizes",
        type=positive,
        nargs=2,
        metavar=("SMALL", "LARGE"),
        help="jobs of the two runs between which is the slope",
    )
    parser.add_argument(
        "--levels",
        type=positive,
        nargs="+",
        metavar="N",
        help="jobs in flight, or workers; the first is the one that others are divided by",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the findings to those that FILE holds")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw DIR/performance.svg")
    parser.add_argument(
        "--polling", type=Path, metavar="FILE", help="for the plot: what polling --json wrote"
    )
    arguments = parser.parse_args()
    if arguments.sizes and arguments.sizes[0] >= arguments.sizes[1]:
        parser.error("--sizes: the second must be larger than the first")
    if REPORT in arguments.subjects and (len(arguments.subjects) > 1 or not arguments.json):
        parser.error(f"{REPORT} goes alone, and needs the FILE of --json")
    return arguments


def subject(word: str) -> str:
    known = (*FULL, REPORT)
    if word not in known:
        raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}; polling goes first")
    return word


def positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def measure_all(known: Known, arguments: argparse.Namespace) -> None:
    """Measure, tell and remember one subject after the other."""
    surroundings = ran_on()
    print(*surroundings, sep="\n", end="\n\n", flush=True)
    with on_cores(SERVER_CORES):
        for name in arguments.subjects or (QUICK if arguments.quick else USUAL):
            steal = Steal()
            tell(f"{name} …")
            measured = measure(name, plan_of(name, arguments))
            stolen = steal.told()
            print(findings(name, measured), *stolen, sep="\n", end="\n\n", flush=True)
            known.subjects[name] = measured
            known.ran_on[name] = [*surroundings, *stolen]
            known.goals = judged(known.subjects)
            if arguments.json:  # at once: the next subject may be interrupted
                arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(known)) + b"\n")


def plan_of(name: str, arguments: argparse.Namespace) -> Plan:
    plan = (SMALL if arguments.quick else FULL)[name]
    return Plan(
        rounds=arguments.rounds or plan.rounds,
        sizes=tuple(arguments.sizes or plan.sizes),
        levels=tuple(arguments.levels or plan.levels),
    )


def measure(name: str, plan: Plan) -> Measured:
    match name:
        case "candidates":
            return candidates(plan.sizes, plan.rounds)
        case "in-flight":
            return in_flight(plan.levels, plan.sizes, plan.rounds)
        case "workers":
            return workers(plan.levels, plan.sizes, plan.rounds)
        case "modes":
            return modes(plan.sizes, plan.rounds)
        case "start":
            return start(plan.rounds)
        case _:
            return memory(plan.levels[0], plan.sizes, plan.rounds)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
