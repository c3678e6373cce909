"""Tests of scripts/bench: it measures what it says. How fast anything is, is not asked here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib.bench.against import Client, candidate, compare
from scripts.lib.bench.checkout import HERE, Checkout, other_checkout
from scripts.lib.bench.goals import GOALS, judge_goals
from scripts.lib.bench.pinned_processes import (
    ClientRun,
    PinnedSimulator,
    Usage,
    client_cores,
    measure_command,
    serving,
)
from scripts.lib.bench.rounds import Findings, Pair, Spread, ratio, ratio_estimate, spread, take_turns
from scripts.lib.bench.tables import format_cell, format_findings

ROOT = Path(__file__).resolve().parents[2]

Table = list[dict[str, str]]


def _start_bench(*arguments: str | int | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.lib.bench", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def _bench(*arguments: str | int | Path) -> str:
    done = _start_bench(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _tables(output: str) -> list[Table]:
    """Return the rows of each printed table, by the titles of its columns."""
    found: list[Table] = []
    head: list[str] | None = None
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


def test_candidates_and_jobs_in_flight_are_measured_over_the_same_exchanges_and_recorded(
    tmp_path: Path,
) -> None:
    file = tmp_path / "bench.json"
    small = ("--sizes", 50, 250, "--rounds", 1, "--json", file)
    output = _bench("candidates", *small)
    output += _bench("in-flight", "--levels", 20, 100, *small)

    candidates, _, in_flight, goals = _tables(output)
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

    record = json.loads(file.read_text())
    assert list(record["subjects"]) == list(record["ran_on"]) == ["candidates", "in-flight"]
    for row in record["subjects"]["candidates"]["rows"]:
        assert row["cpu_us_per_job"].keys() == {"median", "least", "most"}
        assert row["peak_mb"] > 10
    assert _tables(_bench("report", "--json", file)) == [candidates, in_flight, goals]


def _other_checkout(directory: Path) -> Checkout:
    """Return a checkout with the runner of this one, but in another directory."""
    (directory / "runner").symlink_to(ROOT / "runner")
    (directory / ".venv").symlink_to(sys.prefix)
    return other_checkout(directory)


def test_checkouts_take_turns_and_the_cost_of_starting_is_left_out(tmp_path: Path) -> None:
    other = _other_checkout(tmp_path)
    turns: list[str] = []

    def run(_: PinnedSimulator, checkout: Checkout, jobs: int) -> ClientRun:
        turns.append(f"{'A' if checkout is HERE else 'B'}{jobs}")
        us_per_job, start_s = (220, 3.0) if checkout is HERE else (200, 1.0)
        return _client_run(jobs, start_s + us_per_job * jobs / 1e6)

    simulator = PinnedSimulator(process=None, base_url="")  # type: ignore[arg-type] # nothing asks for it
    findings = compare(simulator, [Client("c", run, share=0.5)], other, (20, 2_000), 6)

    assert "".join(turns).startswith("A20B20" + "A10B10B10A10" + "B10A10A10B10" + "A10B10B10A10")
    assert "".join(turns).endswith("A1000B1000B1000A1000" + "B1000A1000A1000B1000")
    (row,) = findings.rows
    assert [format_cell(row[f"{side}_cpu_us_per_job"]) for side in ("here", "there")] == ["220", "200"]
    assert findings.figures["here ÷ there, c"].median == pytest.approx(1.1)
    assert "+10.0% CPU here compared with there" in findings.notes[0]
    assert "MORE THAN 3% more" in findings.notes[0]


def test_the_runner_of_the_other_checkout_is_the_one_that_runs_there(tmp_path: Path) -> None:
    other = _other_checkout(tmp_path)
    assert other.command("--version")[0] == str(tmp_path / ".venv" / "bin" / "python")
    assert other.env["PYTHONPATH"] == str(tmp_path)
    with serving({"latency": {"type": "constant", "mean_s": 0.05}}) as simulator:
        done = candidate("aiohttp")(simulator, other, 30)
    assert (done.jobs, done.posts, done.gets) == (30, 30, 30)


@pytest.mark.parametrize(
    "arguments",
    [
        "speed",
        "--rounds 0",
        "candidates --sizes 9 9",
        "in-flight --levels 0",
        "report",
        "candidates polling",
        "memory --against .",
        "report --against .",
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused_before_anything_is_measured(arguments: str) -> None:
    done = _start_bench(*arguments.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert "scripts/bench: error: " in done.stderr


def test_a_directory_without_a_runner_or_an_environment_is_no_checkout_to_compare_with(
    tmp_path: Path,
) -> None:
    with pytest.raises(SystemExit, match="is no checkout of the runner"):
        other_checkout(tmp_path)
    (tmp_path / "runner").mkdir()
    with pytest.raises(SystemExit, match=r"has no environment: run .*scripts/quickstart first"):
        other_checkout(tmp_path)


def test_an_interpreter_that_imports_another_runner_is_refused(tmp_path: Path) -> None:
    assert HERE.root == ROOT
    assert HERE.software()
    with pytest.raises(SystemExit, match="not the runner of"):
        _other_checkout(tmp_path).software()  # its runner is a link to that of this checkout


def test_every_other_round_has_the_opposite_order() -> None:
    order: list[str] = []

    def measure(name: str) -> int:
        order.append(name)
        return len(order)

    assert take_turns("ab", 3, measure) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert "".join(order) == "abbaab"


def test_the_use_of_all_processes_of_a_client_is_counted() -> None:
    work = "import time; held = bytearray(50_000_000); end = time.process_time() + 0.3\n"
    work += "while time.process_time() < end: pass"
    lead = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])\n{work}"
    usage = measure_command([sys.executable, "-c", lead], client_cores())
    assert usage.cpu_s > 0.6
    assert usage.peak_bytes > 100_000_000


def test_a_client_that_fails_ends_the_benchmark_with_its_last_output() -> None:
    command = [sys.executable, "-c", "import sys; print('no key', file=sys.stderr); sys.exit(3)"]
    with pytest.raises(SystemExit, match=r"ended with 3:\nno key"):
        measure_command(command, set())


def _client_run(jobs: int, cpu_s: float) -> ClientRun:
    usage = Usage(cpu_s=cpu_s, wall_s=1.0, peak_bytes=1)
    return ClientRun(jobs=jobs, usage=usage, posts=jobs, gets=jobs)


def test_the_slope_leaves_out_the_cost_of_starting() -> None:
    assert Pair(_client_run(100, 2.01), _client_run(1_100, 2.11)).cpu_us_per_job == pytest.approx(100)


def test_ratios_are_taken_within_a_round() -> None:
    assert ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0]) == Spread(median=3.0, least=2.0, most=4.0)
    assert spread([5.0]) == Spread(5.0, 5.0, 5.0)


def test_the_estimate_of_a_ratio_is_in_its_interval_which_needs_six_rounds() -> None:
    above = [1.00, 1.02, 1.04, 1.01, 1.03, 1.05]
    estimate, interval = ratio_estimate(above, [1.0] * 6)
    assert estimate == pytest.approx(1.025, rel=1e-3)
    assert interval == pytest.approx((1.00, 1.05))
    assert ratio_estimate(above[:5], [1.0] * 5)[1] is None


def test_the_interval_of_a_ratio_is_that_of_the_signed_rank_test() -> None:
    """For ten pairs, the critical value of the two-sided test at 5 % is 8."""
    above = [1.01**n for n in range(10)]
    averages = sorted((x + y) / 2 for x in range(10) for y in range(x, 10))
    _, interval = ratio_estimate(above, [1.0] * 10)
    assert interval == pytest.approx((1.01 ** averages[8], 1.01 ** averages[-9]))


@pytest.mark.parametrize(
    ("found", "verdict"), [(0.24, "met"), (0.25, "met"), (0.26, "missed"), (None, "not measured")]
)
def test_a_goal_is_judged_by_its_median_and_bound(found: float | None, verdict: str) -> None:
    figures = {} if found is None else {"help": Spread(found, 0.1, 0.9)}
    judgements = judge_goals({"start": Findings(how="", rows=[], figures=figures)})
    assert {one.verdict for one in judgements if one.goal == "wall time of runner --help"} == {verdict}
    assert {one.verdict for one in judgements if one.goal != "wall time of runner --help"} == {"not measured"}


def test_a_table_has_three_digits_of_a_measured_value_and_all_of_a_counted_one() -> None:
    assert format_cell(Spread(1234.5, 999.0, 2000.0)) == "1,234 (999 – 2,000)"
    assert [format_cell(cell) for cell in (0.0461, 1.5, 12.34, 50_000, "a")] == [
        "0.046",
        "1.50",
        "12.3",
        "50,000",
        "a",
    ]
    findings = Findings(how="10 calls", rows=[{"call": "a", "wall_s": 0.5}], notes=["odd"])
    text = format_findings("start", findings)
    assert text.startswith("start: 10 calls; ")
    assert _tables(text) == [[{"call": "a", "wall s": "0.500"}]]
    assert text.endswith("odd\n")
