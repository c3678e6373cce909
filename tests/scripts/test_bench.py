"""The harness of scripts/bench measures what it says it does; how fast anything is, is not asked here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib.bench.goals import GOALS, judged
from scripts.lib.bench.pinned_processes import Trial, Usage, client_cores, measured
from scripts.lib.bench.rounds import Measured, Pair, Spread, ratio, spread, take_turns
from scripts.lib.bench.tables import findings, written

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "scripts.lib.bench", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tables(output):
    """The rows of each table that is printed, by the titles of its columns."""
    found, head = [], None
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells
            found.append([])
        elif not line.startswith("| -"):
            found[-1].append(dict(zip(head, cells, strict=True)))
    return found


def test_candidates_and_jobs_in_flight_are_measured_over_the_same_exchanges_and_remembered(
    tmp_path: Path,
) -> None:
    file = tmp_path / "bench.json"
    small = ("--sizes", 50, 250, "--rounds", 1, "--json", file)
    output = bench("candidates", *small)
    output += bench("in-flight", "--levels", 20, 100, *small)

    candidates, _, in_flight, goals = tables(output)
    assert [row["candidate"] for row in candidates] == [
        "guide-shaped baseline",
        "bare aiohttp",
        "runner, direct",
        "runner, SDK",
    ]
    for row in candidates[1:] + in_flight:
        assert row["POSTs/job"] == row["GETs/job"] == "1.00"
    assert candidates[1]["÷ bare"] == candidates[0]["baseline ÷ it"] == "1.00"
    assert [(row["in flight"], row["seen at most"]) for row in in_flight] == [("20", "20"), ("100", "100")]
    assert "NOT COMPARABLE" not in output
    verdicts = {row["goal"]: row["verdict"] for row in goals}
    assert list(verdicts) == [goal.goal for goal in GOALS]
    assert verdicts["CPU per job, direct ÷ bare aiohttp"] in ("met", "missed")
    assert verdicts["CPU per job, 50,000 jobs in flight ÷ 500"] == "not measured"

    known = json.loads(file.read_text())
    assert list(known["subjects"]) == list(known["ran_on"]) == ["candidates", "in-flight"]
    for row in known["subjects"]["candidates"]["rows"]:
        assert row["cpu_us_per_job"].keys() == {"median", "least", "most"}
        assert row["peak_mb"] > 10
    assert tables(bench("report", "--json", file)) == [candidates, in_flight, goals]


@pytest.mark.parametrize(
    "arguments",
    ["speed", "--rounds 0", "candidates --sizes 9 9", "in-flight --levels 0", "report", "candidates polling"],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(arguments: str) -> None:
    command = [sys.executable, "-m", "scripts.lib.bench", *arguments.split()]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "scripts/bench: error: " in done.stderr


def test_turns_are_taken_forth_and_back() -> None:
    order = []
    assert take_turns("ab", 3, lambda name: order.append(name) or len(order)) == {
        "a": [1, 4, 5],
        "b": [2, 3, 6],
    }
    assert "".join(order) == "abbaab"


def test_what_all_processes_of_a_client_use_is_counted() -> None:
    work = "import time; held = bytearray(50_000_000); end = time.process_time() + 0.3\n"
    work += "while time.process_time() < end: pass"
    lead = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])\n{work}"
    usage = measured([sys.executable, "-c", lead], client_cores())
    assert usage.cpu_s > 0.6
    assert usage.peak_bytes > 100_000_000


def test_a_client_that_fails_ends_the_benchmark_with_its_last_words() -> None:
    with pytest.raises(SystemExit, match=r"ended with 3:\nno key"):
        measured([sys.executable, "-c", "import sys; print('no key', file=sys.stderr); sys.exit(3)"], set())


def trial(jobs, cpu_s):
    return Trial(jobs=jobs, usage=Usage(cpu_s=cpu_s, wall_s=1.0, peak_bytes=1), posts=jobs, gets=jobs)


def test_the_slope_leaves_out_what_starting_costs() -> None:
    assert Pair(trial(100, 2.01), trial(1_100, 2.11)).cpu_us_per_job == pytest.approx(100)


def test_ratios_are_taken_within_a_round() -> None:
    assert ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0]) == Spread(median=3.0, least=2.0, most=4.0)
    assert spread([5.0]) == Spread(5.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("found", "verdict"), [(0.24, "met"), (0.25, "met"), (0.26, "missed"), (None, "not measured")]
)
def test_a_goal_is_judged_by_its_median_and_bound(found: float | None, verdict: str) -> None:
    figures = {} if found is None else {"help": Spread(found, 0.1, 0.9)}
    judgements = judged({"start": Measured(how="", rows=[], figures=figures)})
    assert {one.verdict for one in judgements if one.goal == "wall time of runner --help"} == {verdict}
    assert {one.verdict for one in judgements if one.goal != "wall time of runner --help"} == {"not measured"}


def test_a_table_says_three_digits_of_what_was_measured_and_all_of_what_was_counted() -> None:
    assert written(Spread(1234.5, 999.0, 2000.0)) == "1,234 (999 – 2,000)"
    assert [written(cell) for cell in (0.0461, 1.5, 12.34, 50_000, "a")] == [
        "0.046",
        "1.50",
        "12.3",
        "50,000",
        "a",
    ]
    text = findings("start", Measured(how="10 calls", rows=[{"call": "a", "wall_s": 0.5}], notes=["odd"]))
    assert text.startswith("start: 10 calls; ")
    assert tables(text) == [[{"call": "a", "wall s": "0.500"}]]
    assert text.endswith("odd\n")
