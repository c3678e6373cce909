"""The text of `runner report`: one run or several, as Markdown tables."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from runner.report import read_summary, report
from runner.report.text import render
from tests.report.run_dirs import make_newest, make_run


def tables_of(text: str) -> list[list[list[str]]]:
    """Return the Markdown tables in a text, each as rows of cells without the rule."""
    tables = []
    for block in filter(lambda block: block.startswith("|"), text.split("\n\n")):
        lines = block.splitlines()
        assert len({len(line) for line in lines}) == 1
        assert re.fullmatch(r"\| -+ \|( -+: \|)+", lines[1])
        tables.append(
            [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]
        )
    return tables


def totals_of(text: str) -> dict[str, list[str]]:
    """Return the cells of the first table, by the name of the row."""
    return {name: cells for name, *cells in tables_of(text)[0][1:]}


def test_one_run_is_a_table_of_totals_and_a_table_of_latencies(tmp_path: Path) -> None:
    text = report([str(make_run(tmp_path).path)], as_json=False)
    totals, (head, latencies) = totals_of(text), tables_of(text)

    assert head[0] == ["", "first"]
    assert {name: cells[0] for name, cells in totals.items() if name in EXPECTED} == EXPECTED
    assert "failed" not in totals
    assert "cost" not in totals
    assert "client peak memory" in totals
    assert latencies[0] == ["seconds", "mean", "p50", "p90", "p95", "p99", "max"]
    assert [row[0] for row in latencies[1:]] == [
        "schedule delay",
        "submit",
        "completion",
        "detection lag ≤",
    ], "no poll was timed, so there is no row for polls"
    assert float(latencies[3][2]) == pytest.approx(5.0, rel=1e-2)


EXPECTED = {
    "run": "interrupted",
    "mode": "background",
    "requests": "10",
    "completed": "7",
    "open": "2",
    "unsent": "1",
    "polls": "21 (3.00 per completion)",
    "submit retries": "HTTP 429 ×3",
    "submitted after": "1.000 s",
    "first result after": "5.000 s",
    "half of the results after": "5.000 s",
    "last result after": "5.000 s",
    "HTTP requests per row": "5.00",
    "bytes per row, up and down": "1,000 and 2,100",
    "tokens in, out": "70, 140",
}


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, "first"), make_run(tmp_path, "second", done=10, accepted=0)
    text = report([str(first.path), str(second.path)], as_json=False)
    totals, (head, latencies) = totals_of(text), tables_of(text)

    assert head[0] == ["", "first", "second"]
    assert totals["run"] == ["interrupted", "complete"]
    assert totals["open"] == ["2", "–"]
    assert totals["completed"] == ["7", "10"]
    assert [row[0] for row in latencies[1:3]] == ["schedule delay: first", "schedule delay: second"]


def test_a_run_without_any_latency_has_no_table_of_latencies(tmp_path: Path) -> None:
    text = render([read_summary(make_run(tmp_path, done=0, accepted=0, summary=False).path)])

    assert totals_of(text)["unsent"] == ["10"]
    assert "seconds" not in text


def test_a_run_without_a_result_has_no_figure_per_row(tmp_path: Path) -> None:
    totals = totals_of(report([str(make_run(tmp_path, done=0).path)], as_json=False))

    assert totals["HTTP requests per row"] == totals["bytes per row, up and down"] == ["–"]
    assert totals["submitted after"] == ["1.000 s"]
    assert "first result after" not in totals


def test_a_continued_run_with_a_busy_client_is_reported_as_such(tmp_path: Path) -> None:
    summary = read_summary(make_run(tmp_path, done=10, accepted=0).path)
    summary["run"] |= {"continued": 2, "retried": 3, "spanned_a_stop": 7}
    summary["client"]["limited"] = True
    summary["cost_usd"] = 1234.5
    text = render([summary])
    totals = totals_of(text)

    assert totals["run"] == ["complete, continued 2×"]
    assert totals["retried by hand"] == ["3"]
    assert totals["cost"] == ["$1,234.5000"]
    assert "first: limited by the client: its CPU was busy" in text
    assert "first: 7 requests were in flight while it was stopped" in text


def test_a_summary_of_an_older_version_is_reported_without_the_fields_it_lacks(tmp_path: Path) -> None:
    old, new = make_run(tmp_path, "old"), make_run(tmp_path, "new")
    summary = msgspec.json.decode(old.summary.read_bytes())
    del summary["milestones_s"], summary["wire"], summary["run"]["mode"]
    old.summary.write_bytes(msgspec.json.encode(summary))
    make_newest(old.summary)
    totals = totals_of(report([str(old.path), str(new.path)], as_json=False))

    assert totals["mode"] == ["–", "background"]
    assert totals["last result after"] == ["–", "5.000 s"]
    assert totals["HTTP requests per row"] == ["–", "5.00"]
    assert totals["completed"] == ["7", "7"]


def test_a_summary_of_a_later_version_is_reported_without_the_fields_it_adds(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    summary = msgspec.json.decode(run_dir.summary.read_bytes())
    expected = render([summary])
    summary["verdict"] = {"valid": True, "reasons": []}
    summary["run"]["later"] = summary["latency_s"]["later"] = {"p50": 1.0}
    run_dir.summary.write_bytes(msgspec.json.encode(summary))
    make_newest(run_dir.summary)

    assert report([str(run_dir.path)], as_json=False) == expected
    assert read_summary(run_dir.path) == summary


def test_relative_paths_start_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path)
    monkeypatch.chdir(tmp_path)

    assert tables_of(report(["first"], as_json=False))[0][0] == ["", "first"]
