"""What it costs to notice that a job is done: fixed, exponential and adaptive polling against the optimum.

In virtual time, with seeded draws: every run gives the same figures, save the CPU. Cost is c · looks + lag,
in seconds per job, at the exchange rate c that the adaptive strategy had in force.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.lib.bench.polling.capped import capped
from scripts.lib.bench.polling.courses import Course, cold, queues, two_kinds
from scripts.lib.bench.polling.policy_cpu import cpu
from scripts.lib.bench.polling.stationary import Spent, settings, stationary
from scripts.lib.bench.polling.strategies import Goals, adaptive, backing_off, search
from scripts.lib.bench.polling.virtual_time import Watch, watch

DEFAULT_SEED = 7
NO_WORSE = 1.05
EQUAL_LAG = {
    "5,000 at once": 0.5,
    "submitted faster than served": 0.5,
    "two kinds in one queue": 1.0,
    "two kinds, a queue each": 1.0,
    "two kinds, no queue": 1.0,
}
"""Looks at the mean lag of exponential, as a share of its looks, at most."""
HOW = ("lower aim:", "capped:", "exp., capped:")
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
"""How courses begin that --quick leaves out."""


def never_worse(courses: dict[str, Course], goals: Goals) -> list[list[str]]:
    """Cost ÷ exponential's, over whole runs; each job at the exchange rate in force when it was seen done."""
    rows = []
    for name, course in courses.items():
        plain, seen = (watch(policy, course.jobs, course.kinds) for policy in (backing_off(), adaptive()))
        first = next((rate for rate in seen.exchange_s if rate), 1.0)
        rates = [rate or first for rate in seen.exchange_s]
        ratio = seen.cost_at_s(rates) / plain.cost_at_s(rates)
        spent = (f"{x:.2f}" for w in (plain, seen) for x in (w.mean_looks(), w.mean_lag_s()))
        rows.append([name, *spent, f"{ratio:.2f}"])
        goals.add("cost ÷ exponential", name, ratio, NO_WORSE)
    return rows


def at_equal_lag(courses: dict[str, Course], goals: Goals) -> None:
    """Looks at the lag of exponential, over the later half of the jobs."""
    for name, most in EQUAL_LAG.items():
        if name not in courses:
            continue
        course = courses[name]
        later = len(course.jobs) // 2
        plain = watch(backing_off(), course.jobs, course.kinds)

        def off(seen: Watch, plain: Watch = plain, later: int = later) -> float:
            return math.log(seen.mean_lag_s(later) / plain.mean_lag_s(later))

        def run(target: float, course: Course = course) -> Watch:
            return watch(adaptive(target), course.jobs, course.kinds)

        same = search(run, off, 1)
        print(f"{name}: lag {same.mean_lag_s(later):.1f} s, exponential {plain.mean_lag_s(later):.1f} s")
        ratio = same.mean_looks(later) / plain.mean_looks(later)
        goals.add("looks ÷ exponential at its lag", name, ratio, most)


def table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    for n, row in enumerate([head, *rows]):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if n == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print()


def told(row: dict[str, Any]) -> list[str]:
    floor = "" if row["optimum"] is None else f"{row['optimum']:.3f}"
    verdict = "pass" if row["passed"] else "MISSED"
    return [row["what"], row["of"], f"{row['value']:.3f}", f"{row['goal']:.2f}", floor, verdict]


def told_spent(row: Spent) -> list[str]:
    figures = (row.polls_per_job, row.mean_lag_s, row.cost)
    return [row.distribution, row.policy, row.setting, *(f"{x:.2f}" for x in figures if x is not None)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench polling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs and fewer courses of a queue")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, metavar="N", help="of all draws")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found there, too")
    chosen = parser.parse_args()
    goals, seed, count = Goals(), chosen.seed, 1500 if chosen.quick else 6000
    courses = cold(seed) | queues(seed) | two_kinds(seed)
    if chosen.quick:
        courses = {name: course for name, course in courses.items() if not name.startswith(LONG)}
    print("### Stationary latencies, the later half of the jobs\n")
    policies = stationary(count, seed, goals)
    table(
        ["latency", "policy", "setting", "looks/job", "lag s", "cost ÷ optimum"],
        [told_spent(row) for row in policies],
    )
    print("### Whole runs that know nothing yet, change, or wait in line\n")
    table(
        ["run", "exp. looks", "lag s", "adaptive looks", "lag s", "cost ÷ exp."],
        never_worse(courses, goals),
    )
    at_equal_lag(courses, goals)
    if not chosen.quick:
        print("\n### Fewer GETs per second allowed than wanted: `poll.max_rate`\n")
        table(
            [
                "latency",
                "GETs/s",
                "lower aim: looks",
                "lag s",
                "capped: looks",
                "lag s",
                "exp.: looks",
                "lag s",
                "÷",
            ],
            capped(12_000, seed, goals),
        )
    print("\n### CPU of the strategy, learning included, and as a share of the virtual clock's own\n")
    table(["policy", "looks/job", "µs/job", "µs/look", "÷ clock"], cpu(count, seed, goals))
    print("### Goals\n")
    table(["goal", "of", "value", "at most", "the optimum's", ""], [told(row) for row in goals.rows])
    if chosen.json:
        rows = [asdict(row) for row in policies + settings(count, seed)]
        found = {"policies": rows, "goals": goals.rows}
        chosen.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
