"""What it costs to notice that a job is done: fixed, exponential and adaptive polling against the optimum.

In virtual time, with seeded draws: every run gives the same figures, save the CPU. Cost is c · looks + lag,
in seconds per job, at the exchange rate c that the adaptive strategy had in force.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimum import LATENCIES, Latency, evenly_spaced, optimum, spent
from scenarios import COLD, QUEUES
from virtual_time import Jobs, Watch, spaced, watch

from runner.policy.polling import Adaptive, Exponential, Followed, Polling

SEED = 7
SPACING_S = 1.0
DEFAULT_TARGET = 0.05
NO_WORSE = 1.05
LOOKS = 6
EQUAL_LAG = {"lognormal 0.5": 0.6, "bimodal": 0.45, "uniform": 0.45, "exponential": 0.8}
"""Looks at the mean lag of exponential, as a share of its looks, at most."""
EQUAL_LOOKS = {"lognormal 0.5": 0.85, "bimodal": 0.6, "exponential": 1.1}
"""Lag at `LOOKS` looks per job, as a share of that of the best fixed interval, at most."""
EXPONENTIAL_AGES = [1.0]
while EXPONENTIAL_AGES[-1] < 1e5:
    EXPONENTIAL_AGES.append(EXPONENTIAL_AGES[-1] + min(1.5 ** min(len(EXPONENTIAL_AGES), 10), 30.0))


@dataclass
class Goals:
    """Rows of the second table."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, what: str, of: str, value: float, most: float, optimum: float | None = None) -> None:
        """A measured value that is to be at most `most`; `optimum` is what the offline optimum reaches."""
        row = {"what": what, "of": of, "value": value, "goal": most, "optimum": optimum}
        self.rows.append({**row, "passed": value <= most})


def backing_off() -> Exponential:
    return Exponential(1.0, 1.5, 30.0)


def adaptive(lag_target: float = DEFAULT_TARGET) -> Adaptive:
    return Adaptive(backing_off(), lag_target)


def search(run: Callable[[float], Watch], off: Callable[[Watch], float], sign: int, tries: int = 6) -> Watch:
    """The run at the `lag_target` for which `off`, a logarithm, is zero: secants; its slope has this sign."""
    x, best, before = math.log(DEFAULT_TARGET), run(DEFAULT_TARGET), None
    for _ in range(tries):
        y = off(best)
        if abs(y) < 0.004:
            break
        slope = sign if before is None or before[1] == y else (y - before[1]) / (x - before[0])
        step = -y / slope if slope * sign > 0.2 else -y * sign
        before = (x, y)
        x = min(max(x + min(max(step, -2.0), 2.0), math.log(1e-4)), 0.0)
        best = run(math.exp(x))
    return best


def stationary(count: int, goals: Goals) -> list[list[str]]:
    """Each distribution: what each strategy spends, and the goals that are about it. Returns table rows."""
    rows, later = [], count // 2
    for name, latency in LATENCIES.items():
        draws = latency.draws(count, SEED)
        jobs, judged = spaced(draws, SPACING_S), draws[later:]
        seen = watch(adaptive(), jobs)
        after_1000 = watch_after_1000(seen, latency, draws)
        exchange_s = seen.mean_exchange_s(later)
        best = spent(optimum(latency, exchange_s), judged)
        least = exchange_s * best[0] + best[1]
        plain = spent(EXPONENTIAL_AGES, judged)
        for policy, (looks, lag_s) in {
            "fixed 1 s": evenly_spaced(1.0, judged),
            "exponential": plain,
            "adaptive": (seen.mean_looks(later), seen.mean_lag_s(later)),
            "offline optimum": best,
        }.items():
            cost = (exchange_s * looks + lag_s) / least
            rows.append([name, policy, f"{looks:.2f}", f"{lag_s:.2f}", f"{cost:.2f}"])
        goals.add("cost ÷ optimum after 1,000 completions", name, after_1000, 1.15)

        def run(target: float, jobs: Jobs = jobs) -> Watch:
            return watch(adaptive(target), jobs)

        if name in EQUAL_LAG:
            same = search(run, lambda seen, lag_s=plain[1]: math.log(seen.mean_lag_s(later) / lag_s), 1)
            ratio = same.mean_looks(later) / plain[0]
            floor = optimum_looks(latency, judged, plain[1]) / plain[0]
            goals.add("looks ÷ exponential at its lag", name, ratio, EQUAL_LAG[name], floor)
        if name in EQUAL_LOOKS:
            same = search(run, lambda seen: math.log(seen.mean_looks(later) / LOOKS), -1)
            ratio = same.mean_lag_s(later) / best_fixed_lag_s(judged, LOOKS)
            goals.add(f"lag ÷ best fixed at {LOOKS} looks", name, ratio, EQUAL_LOOKS[name])
    return rows


def watch_after_1000(seen: Watch, latency: Latency, draws: list[float]) -> float:
    """Cost ÷ that of the optimum, over the jobs that are accepted once 1,000 are done."""
    since = sorted(n * SPACING_S + draw for n, draw in enumerate(draws))[1000] / SPACING_S
    first = min(int(since) + 1, len(draws) - 200)
    exchange_s = seen.mean_exchange_s(first)
    looks, lag_s = spent(optimum(latency, exchange_s), draws[first:])
    return seen.cost_s(exchange_s, first) / (exchange_s * looks + lag_s)


def optimum_looks(latency: Latency, draws: list[float], lag_s: float) -> float:
    """What the offline optimum spends for a mean lag."""
    low, high = 1e-3, 100.0
    for _ in range(14):
        middle = math.sqrt(low * high)
        looks, lag = spent(optimum(latency, middle), draws)
        low, high = (low, middle) if lag > lag_s else (middle, high)
    return looks * lag / lag_s  # looks go with 1 / lag, to second order


def best_fixed_lag_s(draws: list[float], looks: float) -> float:
    """The lag of the fixed interval that spends so many looks."""
    low, high = 1e-3, max(draws)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if evenly_spaced(middle, draws)[0] > looks else (low, middle)
    return evenly_spaced(high, draws)[1]


def never_worse(scenarios: dict[str, Jobs], goals: Goals) -> list[list[str]]:
    """Cost ÷ exponential's, over whole runs; each job at the exchange rate in force when it was seen done."""
    rows = []
    for name, jobs in scenarios.items():
        plain, seen = watch(backing_off(), jobs), watch(adaptive(), jobs)
        first = next((rate for rate in seen.exchange_s if rate), 1.0)
        rates = [rate or first for rate in seen.exchange_s]
        ratio = seen.cost_at_s(rates) / plain.cost_at_s(rates)
        rows.append(
            [
                name,
                *(f"{x:.2f}" for w in (plain, seen) for x in (w.mean_looks(), w.mean_lag_s())),
                f"{ratio:.2f}",
            ]
        )
        goals.add("cost ÷ exponential", name, ratio, NO_WORSE)
    return rows


def queues(scenarios: dict[str, Jobs], goals: Goals) -> None:
    """Looks at the lag of exponential, over the later half of jobs that wait in line."""
    for name in ("5,000 at once", "submitted faster than served"):
        if name not in scenarios:
            continue
        jobs = scenarios[name]
        later = len(jobs) // 2
        plain = watch(backing_off(), jobs)

        def off(seen: Watch, plain: Watch = plain, later: int = later) -> float:
            return math.log(seen.mean_lag_s(later) / plain.mean_lag_s(later))

        def run(target: float, jobs: Jobs = jobs) -> Watch:
            return watch(adaptive(target), jobs)

        same = search(run, off, 1)
        print(f"{name}: lag {same.mean_lag_s(later):.1f} s, exponential {plain.mean_lag_s(later):.1f} s")
        ratio = same.mean_looks(later) / plain.mean_looks(later)
        goals.add("looks ÷ exponential at its lag", f"draining queue, {name}", ratio, 0.5)


class Played:
    """Gives the answers that another strategy gave, at no cost; without any, it takes them down."""

    def __init__(self, policy: Polling) -> None:
        self._policy = policy
        self._answers: list[float] = []
        self._next: Iterator[float] | None = None

    def rewind(self) -> None:
        self._next = iter(self._answers)

    def next_look(self, job: Followed, now: float) -> float:
        if self._next:
            return next(self._next)
        self._answers.append(self._policy.next_look(job, now))
        return self._answers[-1]

    def saw_pending(self, job: Followed, at: float) -> None:
        if not self._next:
            self._policy.saw_pending(job, at)

    def saw_done(self, job: Followed, by: float) -> None:
        if not self._next:
            self._policy.saw_done(job, by)


def cpu_s(policy: Polling, jobs: Jobs) -> tuple[float, Watch]:
    began = time.process_time()
    seen = watch(policy, jobs)
    return time.process_time() - began, seen


def cpu(count: int, goals: Goals) -> list[list[str]]:
    """CPU of a strategy, learning included: a run with it, less the same run with its answers given."""
    jobs = spaced(LATENCIES["lognormal 0.5"].draws(count, SEED), SPACING_S)
    rows = []
    for name, make in {"exponential": backing_off, "adaptive": adaptive}.items():
        played = Played(make())
        watch(played, jobs)
        played.rewind()
        virtual_s, _ = cpu_s(played, jobs)
        whole_s, seen = cpu_s(make(), jobs)
        per_job, per_look = ((whole_s - virtual_s) * 1e6 / n for n in (count, sum(seen.looks)))
        share = whole_s / virtual_s - 1
        rows.append([name, f"{seen.mean_looks():.1f}", f"{per_job:.1f}", f"{per_look:.2f}", f"{share:.2f}"])
        if name == "adaptive":
            goals.add("CPU µs per look and completion", name, per_look, 5.0)
    return rows


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench polling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs and fewer courses of a queue")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the goals there, too")
    chosen = parser.parse_args()
    goals = Goals()
    quick = ("submitted faster than served", "runs empty, then one job a second")
    lines = {name: jobs for name, jobs in QUEUES.items() if not chosen.quick or name in quick}
    print("### Stationary latencies, the later half of the jobs\n")
    table(
        ["latency", "policy", "looks/job", "lag s", "cost ÷ optimum"],
        stationary(2500 if chosen.quick else 6000, goals),
    )
    print("### Whole runs that know nothing yet, change, or wait in line\n")
    table(
        ["run", "exp. looks", "lag s", "adaptive looks", "lag s", "cost ÷ exp."],
        never_worse(COLD | lines, goals),
    )
    queues(lines, goals)
    print("\n### CPU of the strategy, learning included, and as a share of the virtual clock's own\n")
    table(["policy", "looks/job", "µs/job", "µs/look", "÷ clock"], cpu(2000 if chosen.quick else 6000, goals))
    print("### Goals\n")
    table(["goal", "of", "value", "at most", "the optimum's", ""], [told(row) for row in goals.rows])
    if chosen.json:
        chosen.json.write_text(json.dumps(goals.rows, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(row["passed"] for row in goals.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
