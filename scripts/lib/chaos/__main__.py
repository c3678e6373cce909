"""Runs that are killed at any moment, again and again: is a result lost, doubled, or a request run twice?

Trial after trial, each drawn from the seed and its number, until so many SIGKILLs were delivered. Prints a
Markdown table, and ends with 1 if anything did not hold.
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

from scripts.lib.chaos.execution import Trial
from scripts.lib.chaos.tally import STARTING_S, Tally
from scripts.lib.chaos.trial_plan import KINDS, Kind, Mode, Plan, draw

MOST_TOLD = 5
COLUMNS = (
    "mode and service", "trials", "rows", "kills", f"in the first {STARTING_S:g} s", "of workers", "signals",
    "batches in doubt", "files torn",
    "disks filled", "service restarts", "retries by hand", "lost", "doubled", "run twice",
    "otherwise wrong", "uncertain",
)  # fmt: skip


def main() -> int:
    arguments = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tallies = {name_of(mode, kind): Tally() for mode in modes(arguments) for kind in KINDS[mode]}
    for plan, tally in trials(arguments):
        tallies[name_of(plan.mode, plan.kind)].add(tally)
    print_table(arguments.seed, tallies)
    return int(any(tally.violations for tally in tallies.values()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs to deliver, at least")
    parser.add_argument("--mode", choices=(*KINDS, "both"), default="both", help="what trials are drawn from")
    parser.add_argument("--only", type=int, metavar="N", help="this one trial")
    parser.add_argument(
        "--keep", action="store_true", help="keep the directories of all trials, not only of the bad"
    )
    parser.add_argument("--jobs", type=int, default=2, help="trials at once")
    return parser.parse_args()


def modes(arguments: argparse.Namespace) -> tuple[Mode, ...]:
    return tuple(mode for mode in KINDS if arguments.mode in (mode, "both"))


def name_of(mode: Mode, kind: Kind) -> str:
    return f"{mode}, {kind}"


def trials(arguments: argparse.Namespace) -> Iterator[tuple[Plan, Tally]]:
    """Carry trials out, some at once, and give the tally of each as it ends.

    Whatever ends this early ends them, too, and nothing that they started or mounted stays behind.
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
                    running[pool.submit(carry_out, arguments, number, stop)] = number
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    tally = future.result()
                    kills += tally.kills
                    yield draw(arguments.seed, number, modes(arguments)), tally
        finally:
            stop.set()


def carry_out(arguments: argparse.Namespace, number: int, stop: threading.Event) -> Tally:
    """One trial in a directory of its own, and a line about it."""
    plan = draw(arguments.seed, number, modes(arguments))
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{number}-"))
    began = time.monotonic()
    keep = arguments.keep
    try:
        tally = Trial(plan, directory, stop).carry_out(keep=keep)
        keep = keep or bool(tally.violations)
    except BaseException as error:  # whatever it is, it should say in which trial
        error.add_note(f"in trial {number} of seed {arguments.seed}")
        raise
    finally:
        if not keep:
            shutil.rmtree(directory)
    lines = [
        f"trial {number} ({plan.mode}, {plan.kind}, {plan.transport}): "
        f"{tally.rows} rows, {tally.kills} kills, {tally.worker_kills} of workers, "
        f"{tally.signals} signals, {tally.in_doubt} batches in doubt, "
        f"{tally.torn} torn, {tally.disks} disks filled, {tally.restarts} restarts, "
        f"{tally.uncertain} uncertain, {time.monotonic() - began:.1f} s: "
        + ("VIOLATED" if tally.violations else "good")
    ]
    if tally.violations:
        options = f"--seed {arguments.seed} --mode {arguments.mode}"
        lines += [f"  {violation.sort}: {violation.what}" for violation in tally.violations[:MOST_TOLD]]
        if len(tally.violations) > MOST_TOLD:
            lines.append(f"  and {len(tally.violations) - MOST_TOLD} more")
        lines.append(f"  repeat it: scripts/chaos {options} --only {number} --keep")
    if keep:
        lines.append(f"  kept: {directory}")
    print("\n".join(lines), file=sys.stderr, flush=True)
    return tally


def print_table(seed: int, tallies: dict[str, Tally]) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "aiohttp"))
    print(f"{platform.python_implementation()} {platform.python_version()}, {packages}, seed {seed}\n")
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    table = [list(COLUMNS), *(row(name, tally) for name, tally in tallies.items()), row("total", total)]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for line in (table[0], rule, *table[1:]):
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        print(f"| {' | '.join(cells)} |")


def row(name: str, tally: Tally) -> list[str]:
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
