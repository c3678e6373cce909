"""Measure what a job costs the client: CPU, wall time and memory, as ratios from one call.

subjects:
  candidates  CPU per job of a client in the shape of the vendor's guide, of bare aiohttp, and of the runner
              on both transports, all with the same exchanges against the same simulator
  in-flight   CPU per job with 500, 5,000 and 50,000 jobs in flight
  workers     CPU per job with one worker process and with two
  modes       CPU per row and peak memory of the same rows as background jobs and in batches: ten minutes
  start       wall time of `runner --help`, and of a wrong config
  memory      peak memory for 50,000 and for 1,000,000 rows: ten minutes, 4 GB in TMPDIR
  polling     polls spent and lag of each polling strategy; has options of its own (polling --help)
  report      measures nothing: prints, and with --plot draws, what the FILE of --json holds

Without a subject: candidates, in-flight, workers and start, in about a quarter of an hour. With --quick and
without a subject: candidates, in-flight and start at small sizes, within a minute, as a first impression.
Leave the machine alone meanwhile. Results go to stdout as Markdown, progress goes to stderr.

comparing two versions:
  git clone . ../before && git -C ../before checkout COMMIT && ../before/scripts/quickstart
  scripts/bench candidates modes --against ../before

  --against DIR measures the runner of this checkout ("here") and the one in DIR ("there") in one call:
  candidates (both transports), modes (both modes), or without a subject both. Each checkout runs with its own
  .venv, on the same workload and against the same simulator process, which is the one of this checkout. Every
  round is A B B A or B A A B, so that neither profits from a machine whose speed changes. The table has the
  CPU per job of both, beyond what a run without jobs costs, and the median of the rounds' ratios with the
  least and the greatest. A line below estimates the difference with its 95 % confidence interval, and says
  whether a job costs at most 3 % more here. More --rounds narrow the interval; --against . compares a
  checkout with itself and shows how much is noise. A quarter of an hour for both subjects.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from scripts.lib.bench.against import COMPARISONS, measure_against
from scripts.lib.bench.checkout import Checkout, other_checkout
from scripts.lib.bench.goals import Judgement, judge_goals
from scripts.lib.bench.machine import StealMeter, describe_machine
from scripts.lib.bench.pinned_processes import SERVER_CORES, on_cores
from scripts.lib.bench.rounds import Findings, report_progress
from scripts.lib.bench.subjects import (
    FULL,
    FULL_AGAINST,
    QUICK,
    SMALL,
    SMALL_AGAINST,
    USUAL,
    Extent,
    measure,
)
from scripts.lib.bench.tables import format_findings, format_goals

REPORT = "report"


class Record(msgspec.Struct):
    """Content of the file of --json."""

    ran_on: dict[str, list[str]] = {}
    """Machine by subject: each may have been measured on another day."""
    subjects: dict[str, Findings] = {}
    goals: list[Judgement] = []


def main() -> int:
    """Measure, print, and write the JSON file and the plot if they were asked for."""
    if sys.argv[1:2] == ["polling"]:
        program = [sys.executable, "-m", "scripts.lib.bench.polling", *sys.argv[2:]]
        os.execv(sys.executable, program)  # noqa: S606 - no shell is wanted
    arguments = parse()
    record = Record()
    if arguments.json and arguments.json.exists():
        record = msgspec.json.decode(arguments.json.read_bytes(), type=Record)
    if REPORT in arguments.subjects:
        for name, findings in record.subjects.items():
            print(format_findings(name, findings), *record.ran_on[name], sep="\n", end="\n\n")
    else:
        measure_all(record, arguments)
    if not arguments.against:
        print(format_goals(judge_goals(record.subjects)), end="")
    if arguments.plot:
        from scripts.lib.bench.plot import draw

        print(f"drawn: {draw(record.subjects, arguments.polling, arguments.plot)}", file=sys.stderr)
    return 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", type=subject, metavar="SUBJECT")
    parser.add_argument("--against", type=Path, metavar="DIR", help="compare with the checkout in DIR")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    parser.add_argument("--rounds", type=positive, metavar="N", help="rounds of each subject")
    parser.add_argument(
        "--sizes",
        type=positive,
        nargs=2,
        metavar=("SMALL", "LARGE"),
        help="jobs of the two runs between which the slope is taken",
    )
    parser.add_argument(
        "--levels",
        type=positive,
        nargs="+",
        metavar="N",
        help="jobs in flight, or workers; the others are divided by the first",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the findings to those in FILE")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw DIR/performance.svg")
    parser.add_argument(
        "--polling", type=Path, metavar="FILE", help="for the plot: the file that polling --json wrote"
    )
    arguments = parser.parse_args()
    if arguments.sizes and arguments.sizes[0] >= arguments.sizes[1]:
        parser.error("--sizes: the second must be larger than the first")
    if REPORT in arguments.subjects and (len(arguments.subjects) > 1 or not arguments.json):
        parser.error(f"{REPORT} must be the only subject, and needs --json FILE")
    if arguments.against and not {*arguments.subjects} <= {*COMPARISONS}:
        parser.error(f"--against measures only {' and '.join(COMPARISONS)}")
    return arguments


def subject(word: str) -> str:
    """Check the name of a subject."""
    known = (*FULL, REPORT)
    if word not in known:
        names = ", ".join(known)
        raise argparse.ArgumentTypeError(f"{word!r} is none of {names}; polling must be the first argument")
    return word


def positive(word: str) -> int:
    """Check a number that must be at least 1."""
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def measure_all(record: Record, arguments: argparse.Namespace) -> None:
    """Measure, print and record one subject after the other."""
    other = other_checkout(arguments.against) if arguments.against else None
    machine = describe_machine(other)
    print(*machine, sep="\n", end="\n\n", flush=True)
    usual = COMPARISONS if other else QUICK if arguments.quick else USUAL
    with on_cores(SERVER_CORES):
        for name in arguments.subjects or usual:
            steal = StealMeter()
            report_progress(f"{name} …")
            title, findings = measure_subject(name, arguments, other)
            stolen = steal.describe()
            print(format_findings(title, findings), *stolen, sep="\n", end="\n\n", flush=True)
            record.subjects[title] = findings
            record.ran_on[title] = [*machine, *stolen]
            record.goals = judge_goals(record.subjects)
            if arguments.json:  # at once: the next subject may be interrupted
                arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def measure_subject(name: str, arguments: argparse.Namespace, other: Checkout | None) -> tuple[str, Findings]:
    """Measure a subject, and return its title and what was found."""
    if other:
        extent = extent_of(name, arguments, SMALL_AGAINST if arguments.quick else FULL_AGAINST)
        compared = next(known for known in COMPARISONS if known == name)
        return f"{name} against", measure_against(other, compared, extent.sizes, extent.rounds)
    return name, measure(name, extent_of(name, arguments, SMALL if arguments.quick else FULL))


def extent_of(name: str, arguments: argparse.Namespace, defaults: Mapping[str, Extent]) -> Extent:
    """Return how much of a subject to measure, by the command line and the defaults."""
    default = defaults[name]
    return Extent(
        rounds=arguments.rounds or default.rounds,
        sizes=tuple(arguments.sizes or default.sizes),
        levels=tuple(arguments.levels or default.levels),
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
