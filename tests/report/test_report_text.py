"""`runner report`: one run or several, as a table or JSON, of runs that ended and runs that were killed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from runner.errors import RunDirError
from runner.report import read_summary, report
from runner.report.text import render
from runner.store import RunDir


def _tables(text: str) -> list[list[list[str]]]:
    """The Markdown tables in a text, each as rows of cells without the rule."""
    tables = []
    for block in filter(lambda block: block.startswith("|"), text.split("\n\n")):
        lines = block.splitlines()
        assert len({len(line) for line in lines}) == 1
        assert re.fullmatch(r"\| -+ \|( -+: \|)+", lines[1])
        tables.append(
            [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]
        )
    return tables


def test_one_run_is_a_table_of_totals_and_one_of_latencies(make_run: Callable[..., RunDir]) -> None:
    totals, latencies = _tables(report([str(make_run().path)], as_json=False))

    assert totals[0] == ["", "first"]
    said = dict(totals[1:])
    assert said["run"] == "interrupted"
    assert (said["requests"], said["completed"], said["open"], said["unsent"]) == ("10", "7", "2", "1")
    assert said["polls"] == "21 (3.00 per completion)"
    assert said["submit retries"] == "HTTP 429 ×3"
    assert said["mode"] == "background"
    assert (said["submitted after"], said["first result after"]) == ("1.000 s", "5.000 s")
    assert (said["half of the results after"], said["last result after"]) == ("5.000 s", "5.000 s")
    assert said["HTTP requests per row"] == "5.00"
    assert said["bytes per row, up and down"] == "1,000 and 2,100"
    assert said["tokens in, out"] == "70, 140"
    assert "failed" not in said
    assert "cost" not in said
    assert "client peak memory" in said
    assert latencies[0] == ["seconds", "mean", "p50", "p90", "p95", "p99", "max"]
    assert [row[0] for row in latencies[1:]] == [
        "schedule delay",
        "submit",
        "completion",
        "detection lag ≤",
    ], "no poll was timed, and there is no row for it"
    assert float(latencies[3][2]) == pytest.approx(5.0, rel=1e-2)


def test_several_runs_stand_side_by_side(make_run: Callable[..., RunDir]) -> None:
    one = make_run("first")
    two = make_run("second", done=10, accepted=0)
    totals, latencies = _tables(report([str(one.path), str(two.path)], as_json=False))

    assert totals[0] == ["", "first", "second"]
    rows = {row[0]: row[1:] for row in totals[1:]}
    assert rows["run"] == ["interrupted", "complete"]
    assert rows["open"] == ["2", "–"]
    assert rows["completed"] == ["7", "10"]
    assert [row[0] for row in latencies[1:3]] == ["schedule delay: first", "schedule delay: second"]


def test_json_is_the_summary_itself_or_a_list_of_them(make_run: Callable[..., RunDir]) -> None:
    one, two = make_run("first"), make_run("second")

    single = msgspec.json.decode(report([str(one.path)], as_json=True))
    both = msgspec.json.decode(report([str(one.path), str(two.path)], as_json=True))
    assert single == msgspec.json.decode(one.summary.read_bytes())
    assert [summary["run"]["name"] for summary in both] == ["first", "second"]


def test_a_run_that_was_killed_is_summed_up_from_its_other_files(make_run: Callable[..., RunDir]) -> None:
    summary = read_summary(make_run(summary=False).path)

    assert summary["run"]["status"] == "stopped"
    assert summary["run"]["wall_s"] == 20.0
    assert (summary["requests"]["completed"], summary["requests"]["open"], summary["requests"]["unsent"]) == (
        7,
        2,
        1,
    )
    assert summary["tokens"] == {"input": 70, "cached": 0, "output": 140, "reasoning": 0}
    assert summary["latency_s"]["completion"]["p50"] == pytest.approx(5.0, rel=1e-3)
    assert summary["client"] is None
    assert render([summary])


def test_a_run_that_was_killed_right_after_its_start_can_be_reported(make_run: Callable[..., RunDir]) -> None:
    run_dir = make_run(done=0, accepted=0, summary=False)
    for path in (run_dir.journal, run_dir.results, run_dir.metrics):
        path.unlink()

    summary = read_summary(run_dir.path)
    assert summary["requests"]["unsent"] == summary["requests"]["total"] == 10
    text = render([summary])
    assert "unsent" in text
    assert "seconds" not in text, "no latency, no table of them"


def test_reporting_changes_no_file(make_run: Callable[..., RunDir]) -> None:
    run_dir = make_run(summary=False)
    with run_dir.results.open("ab") as results:
        results.write(b'{"torn')
    before = {path.name: path.read_bytes() for path in run_dir.path.iterdir()}

    read_summary(run_dir.path)
    assert {path.name: path.read_bytes() for path in run_dir.path.iterdir()} == before


@pytest.mark.parametrize("name", ["results", "journal"])
def test_a_summary_from_before_the_last_lines_were_written_is_not_believed(
    make_run: Callable[..., RunDir], name: str
) -> None:
    run_dir = make_run()
    stale = msgspec.json.decode(run_dir.summary.read_bytes())
    stale["requests"]["open"] = 99
    run_dir.summary.write_bytes(msgspec.json.encode(stale))
    newest = max(path.stat().st_mtime_ns for path in run_dir.path.iterdir())
    os.utime(run_dir.summary, ns=(newest, newest))
    os.utime(getattr(run_dir, name), ns=(newest + 10**9, newest + 10**9))

    summary = read_summary(run_dir.path)
    assert summary["requests"]["open"] == 2
    assert summary["run"]["status"] == "stopped"


def test_a_run_that_is_going_on_is_reported_as_running(make_run: Callable[..., RunDir]) -> None:
    run_dir = make_run()
    run_dir.lock()
    try:
        assert read_summary(run_dir.path)["run"]["status"] == "running"
    finally:
        run_dir.unlock()


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_what_is_not_a_run_directory_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(RunDirError, match="is not a run directory") as told:
        report([str(tmp_path / name)], as_json=False)
    assert told.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}", b'{"run": {}}'])
def test_a_damaged_summary_is_told_by_its_path(make_run: Callable[..., RunDir], content: bytes) -> None:
    run_dir = make_run()
    run_dir.summary.write_bytes(content)

    with pytest.raises(RunDirError, match=r"summary\.json"):
        report([str(run_dir.path)], as_json=False)


def test_a_run_continued_several_times_and_limited_by_its_client_says_so(
    make_run: Callable[..., RunDir],
) -> None:
    summary = read_summary(make_run(done=10, accepted=0).path)
    summary["run"]["continued"] = 2
    summary["client"]["limited"] = True
    summary["cost_usd"] = 1234.5
    summary["run"]["spanned_a_stop"] = 7
    text = render([summary])
    said = dict(_tables(text)[0][1:])

    assert said["run"] == "complete, continued 2×"
    assert said["cost"] == "$1,234.5000"
    assert "limited by the client" in text
    assert "7 requests were under way while it was stopped" in text


def test_a_summary_of_an_older_version_is_reported_without_what_it_lacks(
    make_run: Callable[..., RunDir],
) -> None:
    old, new = make_run("old"), make_run("new")
    summary = msgspec.json.decode(old.summary.read_bytes())
    del summary["milestones_s"], summary["wire"], summary["run"]["mode"]
    newest = old.summary.stat().st_mtime_ns
    old.summary.write_bytes(msgspec.json.encode(summary))
    os.utime(old.summary, ns=(newest, newest))
    rows = {row[0]: row[1:] for row in _tables(report([str(old.path), str(new.path)], as_json=False))[0]}

    assert rows["mode"] == ["–", "background"]
    assert rows["last result after"] == ["–", "5.000 s"]
    assert rows["HTTP requests per row"] == ["–", "5.00"]
    assert rows["completed"] == ["7", "7"]


def test_without_a_result_there_is_nothing_to_tell_per_row(make_run: Callable[..., RunDir]) -> None:
    totals, *_ = _tables(report([str(make_run(done=0).path)], as_json=False))
    said = dict(totals[1:])

    assert said["HTTP requests per row"] == said["bytes per row, up and down"] == "–"
    assert said["submitted after"] == "1.000 s"
    assert "first result after" not in said


def test_the_mode_of_a_run_that_was_killed_is_that_of_its_config(make_run: Callable[..., RunDir]) -> None:
    run_dir = make_run(summary=False)
    text = run_dir.config.read_text()
    assert "mode: background" in text
    run_dir.config.write_text(text.replace("mode: background", "mode: batch"))

    assert read_summary(run_dir.path)["run"]["mode"] == "batch"
    run_dir.config.write_text("[")
    assert read_summary(run_dir.path)["run"]["mode"] == "background"


def test_paths_are_taken_from_the_current_directory(
    make_run: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_run().path.parent)

    assert _tables(report(["first"], as_json=False))[0][0] == ["", "first"]
