"""Compare what fixed, exponential and adaptive polling spend until a job is seen done, and the optimum.

Runs in virtual time with seeded draws: every run prints the same figures, except for CPU. The cost of a job
is c · polls + lag, in seconds. The exchange rate c is the one that the adaptive strategy used at the time.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from scripts.lib.bench.polling.capped import capped
from scripts.lib.bench.polling.courses import Course, cold, queues, two_kinds
from scripts.lib.bench.polling.policy_cpu import policy_cpu
from scripts.lib.bench.polling.stationary import Spent, spent_at_settings, stationary
from scripts.lib.bench.polling.strategies import PollingGoal, PollingGoals, adaptive, backing_off, search
from scripts.lib.bench.polling.virtual_time import Watch, watch

DEFAULT_SEED = 7
MOST_COST = 1.05
EQUAL_LAG = {
    "5,000 at once": 0.5,
    "submitted faster than served": 0.5,
    "two kinds in one queue": 1.0,
    "two kinds, a queue each": 1.0,
    "two kinds, no queue": 1.0,
}
"""Most polls at the mean lag of the exponential strategy, as a share of its polls."""
LONG = (
    "2,000",
    "5,000",
    "3 times",
    "10 times",
    "a burst",
    "stalls",
    "twice",
    "one in",
    "served",
    "two kinds,",
)
"""Beginnings of the names of courses that --quick leaves out."""
CAPPED_HEAD = [
    "latency", "GETs/s", "lag_target: polls", "lag s", "capped: polls", "lag s", "exp., capped: polls",
    "lag s", "÷",
]  # fmt: skip


def main() -> None:
    """Measure, print tables, and write the JSON file if one was asked for."""
    arguments = parse()
    goals, seed, count = PollingGoals(), arguments.seed, 1500 if arguments.quick else 6000
    courses = cold(seed) | queues(seed) | two_kinds(seed)
    if arguments.quick:
        courses = {name: course for name, course in courses.items() if not name.startswith(LONG)}
    print("### Stationary latencies: the later half of the jobs\n")
    policies = stationary(count, seed, goals)
    print_table(
        ["latency", "policy", "setting", "polls/job", "lag s", "cost ÷ optimum"],
        [spent_cells(row) for row in policies],
    )
    print("### Whole runs: nothing is known at first, the latency changes, or jobs wait in a queue\n")
    print_table(
        ["run", "exp. polls", "lag s", "adaptive polls", "lag s", "cost ÷ exp."],
        compare_costs(courses, goals),
    )
    compare_at_equal_lag(courses, goals)
    if not arguments.quick:
        print("\n### `poll.max_rate` below the wanted rate\n")
        print_table(CAPPED_HEAD, capped(12_000, seed, goals))
    print("\n### CPU of a strategy, learning included, and as a share of the CPU of the virtual clock\n")
    print_table(["policy", "polls/job", "µs/job", "µs/poll", "÷ clock"], policy_cpu(count, seed, goals))
    print("### Goals\n")
    print_table(["goal", "of", "value", "at most", "optimum", ""], [goal_cells(goal) for goal in goals.rows])
    if arguments.json:
        rows = [asdict(row) for row in policies + spent_at_settings(count, seed)]
        found = {"policies": rows, "goals": [asdict(goal) for goal in goals.rows]}
        arguments.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench polling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs, and fewer courses with a queue")
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, metavar="N", help=f"seed of all draws ({DEFAULT_SEED})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    return parser.parse_args()


def compare_costs(courses: dict[str, Course], goals: PollingGoals) -> list[list[str]]:
    """Return a table of the adaptive strategy's cost ÷ that of the exponential one, over whole runs.

    Each job is counted at the exchange rate in force when it was seen done.
    """
    rows = []
    for name, course in courses.items():
        plain, seen = (watch(policy, course.jobs, course.kinds) for policy in (backing_off(), adaptive()))
        first = next((rate for rate in seen.exchange_s if rate), 1.0)
        rates = [rate or first for rate in seen.exchange_s]
        ratio = seen.cost_at_rates_s(rates) / plain.cost_at_rates_s(rates)
        spent = (f"{x:.2f}" for w in (plain, seen) for x in (w.mean_polls(), w.mean_lag_s()))
        rows.append([name, *spent, f"{ratio:.2f}"])
        goals.add("cost ÷ exponential", name, ratio, MOST_COST)
    return rows


def compare_at_equal_lag(courses: dict[str, Course], goals: PollingGoals) -> None:
    """Add goals for the polls at the lag of the exponential strategy, over the later half of the jobs."""
    for name, most in EQUAL_LAG.items():
        if name not in courses:
            continue
        course = courses[name]
        later = len(course.jobs) // 2
        plain = watch(backing_off(), course.jobs, course.kinds)
        same = watch_at_lag(course, plain.mean_lag_s(later), later)
        print(f"{name}: lag {same.mean_lag_s(later):.1f} s, exponential {plain.mean_lag_s(later):.1f} s")
        ratio = same.mean_polls(later) / plain.mean_polls(later)
        goals.add("polls ÷ exponential at its lag", name, ratio, most)


def watch_at_lag(course: Course, lag_s: float, later: int) -> Watch:
    """Follow a course at the `lag_target` for which the jobs from `later` on have a mean lag of `lag_s`."""

    def run(target: float) -> Watch:
        return watch(adaptive(target), course.jobs, course.kinds)

    def off(seen: Watch) -> float:
        return math.log(seen.mean_lag_s(later) / lag_s)

    return search(run, off, 1)


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    for n, row in enumerate([head, *rows]):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if n == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print()


def goal_cells(goal: PollingGoal) -> list[str]:
    """Return the cells of a goal's table row."""
    optimum = "" if goal.optimum is None else f"{goal.optimum:.3f}"
    verdict = "met" if goal.passed else "MISSED"
    return [goal.what, goal.of, f"{goal.value:.3f}", f"{goal.goal:.2f}", optimum, verdict]


def spent_cells(row: Spent) -> list[str]:
    """Return the cells of a strategy's table row."""
    figures = (row.polls_per_job, row.mean_lag_s, row.cost)
    return [row.distribution, row.policy, row.setting, *(f"{x:.2f}" for x in figures if x is not None)]


if __name__ == "__main__":
    main()
