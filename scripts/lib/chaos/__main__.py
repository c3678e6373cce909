"""Kill runs at random moments, again and again, and check that no result is lost, doubled, or run twice.

Trials are drawn from the seed and their number, until enough SIGKILLs were delivered. Prints a Markdown
table. The exit code is 1 if anything does not hold.
"""

import argparse
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib.metadata import version
from itertools import count
from pathlib import Path

from scripts.lib.chaos.drawing import SERVICES, draw_plan
from scripts.lib.chaos.execution import execute
from scripts.lib.chaos.tally import EARLY_S, Tally
from scripts.lib.chaos.trial_plan import Mode, ServiceKind, TrialPlan

MOST_PRINTED = 5
"""The most violations of one trial that are printed."""
COLUMNS = (
    "mode and service", "trials", "rows", "kills", f"kills in first {EARLY_S:g} s", "worker kills", "signals",
    "batches in doubt", "files torn", "disks filled", "service restarts", "manual retries",
    "lost", "doubled", "run twice", "otherwise wrong", "uncertain",
)  # fmt: skip


def main() -> int:
    """Run trials and print their table; return the exit code."""
    arguments = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tallies = {title(mode, service): Tally() for mode in modes(arguments) for service in SERVICES[mode]}
    for plan, tally in trials(arguments):
        tallies[title(plan.mode, plan.service)].add(tally)
    print_table(arguments.seed, tallies)
    return int(any(tally.violations for tally in tallies.values()))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="seed of all trials (default: 1)")
    parser.add_argument("--kills", type=int, default=100, help="least number of SIGKILLs (default: 100)")
    parser.add_argument(
        "--mode",
        choices=(*SERVICES, "both"),
        default="both",
        help="target.mode of the trials (default: both)",
    )
    parser.add_argument("--only", type=int, metavar="N", help="run only trial N")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the directories of all trials, not only of those that failed",
    )
    parser.add_argument("--jobs", type=int, default=2, help="trials that run at the same time (default: 2)")
    return parser.parse_args()


def modes(arguments: argparse.Namespace) -> tuple[Mode, ...]:
    """Return the modes that trials are drawn from."""
    return tuple(mode for mode in SERVICES if arguments.mode in (mode, "both"))


def title(mode: Mode, service: ServiceKind) -> str:
    """Return the first cell of a table row."""
    return f"{mode}, {service}"


def trials(arguments: argparse.Namespace) -> Iterator[tuple[TrialPlan, Tally]]:
    """Run trials, several at a time, and yield the tally of each when it ends.

    If this is ended early, the trials end as well, and nothing that they started or mounted stays behind.
    """
    numbers = iter([arguments.only]) if arguments.only is not None else count()
    kills = 0
    stop = threading.Event()
    running: dict[Future[Tally], int] = {}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        try:
            while True:
                while len(running) < arguments.jobs and kills < arguments.kills:
                    number = next(numbers, None)
                    if number is None:
                        break
                    running[pool.submit(run_trial, arguments, number, stop)] = number
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    tally = future.result()
                    kills += tally.kills
                    yield draw_plan(arguments.seed, number, modes(arguments)), tally
        finally:
            stop.set()


def run_trial(arguments: argparse.Namespace, number: int, stop: threading.Event) -> Tally:
    """Run one trial in a directory of its own, and print a line about it."""
    plan = draw_plan(arguments.seed, number, modes(arguments))
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{number}-"))
    started_mono = time.monotonic()
    keep = arguments.keep
    try:
        tally = execute(plan, directory, stop, keep=keep)
        keep = keep or bool(tally.violations)
    except BaseException as error:  # whatever it is, it should name its trial
        error.add_note(f"in trial {number} of seed {arguments.seed}")
        raise
    finally:
        if not keep:
            shutil.rmtree(directory)
    lines = [f"{describe(plan, tally)}, {time.monotonic() - started_mono:.1f} s"]
    if tally.violations:
        options = f"--seed {arguments.seed} --mode {arguments.mode}"
        lines += [f"  {violation.kind}: {violation.text}" for violation in tally.violations[:MOST_PRINTED]]
        if len(tally.violations) > MOST_PRINTED:
            lines.append(f"  and {len(tally.violations) - MOST_PRINTED} more")
        lines.append(f"  to repeat it: scripts/chaos {options} --only {number} --keep")
    if keep:
        lines.append(f"  files: {directory}")
    print("\n".join(lines), file=sys.stderr, flush=True)
    return tally


def describe(plan: TrialPlan, tally: Tally) -> str:
    """Return one line about a trial: what was done, and whether all held."""
    done = {
        "rows": tally.rows,
        "kills": tally.kills,
        "worker kills": tally.worker_kills,
        "signals": tally.signals,
        "batches in doubt": tally.in_doubt,
        "files torn": tally.torn,
        "disks filled": tally.disks,
        "service restarts": tally.restarts,
        "uncertain": tally.uncertain,
    }
    counts = ", ".join(f"{name} {number}" for name, number in done.items())
    verdict = "FAILED" if tally.violations else "passed"
    return f"trial {plan.number} ({plan.mode}, {plan.service}, {plan.transport}) {verdict}: {counts}"


def print_table(seed: int, tallies: dict[str, Tally]) -> None:
    """Print what was tried and found, by mode and service, as Markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "aiohttp"))
    print(f"{platform.python_implementation()} {platform.python_version()}, {packages}, seed {seed}\n")
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    table = [list(COLUMNS), *(cells(name, tally) for name, tally in tallies.items()), cells("total", total)]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for line in (table[0], rule, *table[1:]):
        padded = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        print(f"| {' | '.join(padded)} |")


def cells(name: str, tally: Tally) -> list[str]:
    """Return the cells of one table row, in the order of `COLUMNS`."""
    counts = (
        tally.trials, tally.rows, tally.kills, tally.early_kills, tally.worker_kills, tally.signals,
        tally.in_doubt, tally.torn, tally.disks, tally.restarts, tally.retries,
        tally.count("lost"), tally.count("doubled"), tally.count("run twice"), tally.count("otherwise wrong"),
        tally.uncertain,
    )  # fmt: skip
    return [name, *(f"{n:,}" for n in counts)]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
