"""The summary behind a report: as it was written, or made from the other files of the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from runner.errors import RunDirError
from runner.report import read_summary, report
from runner.report.text import render
from tests.old_runs import DATA, copy_run
from tests.report.run_dirs import make_newest, make_run


def test_json_is_the_summary_itself_or_a_list_of_summaries(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, "first"), make_run(tmp_path, "second")

    single = msgspec.json.decode(report([str(first.path)], as_json=True))
    both = msgspec.json.decode(report([str(first.path), str(second.path)], as_json=True))
    assert single == msgspec.json.decode(first.summary.read_bytes())
    assert [summary["run"]["name"] for summary in both] == ["first", "second"]


def test_a_killed_run_is_summarised_from_its_other_files(tmp_path: Path) -> None:
    summary = read_summary(make_run(tmp_path, summary=False).path)
    requests = summary["requests"]

    assert summary["run"]["status"] == "stopped"
    assert summary["run"]["wall_s"] == 20.0
    assert (requests["completed"], requests["open"], requests["unsent"]) == (7, 2, 1)
    assert summary["tokens"] == {"input": 70, "cached": 0, "output": 140, "reasoning": 0}
    assert summary["latency_s"]["completion"]["p50"] == pytest.approx(5.0, rel=1e-3)
    assert summary["client"] is None
    assert render([summary])


def test_the_summary_of_a_killed_run_has_the_fields_of_a_written_one(tmp_path: Path) -> None:
    killed, written = make_run(tmp_path, "killed", summary=False), make_run(tmp_path, "written")
    recalled, read = read_summary(killed.path), read_summary(written.path)

    assert recalled.keys() == read.keys()
    for name in read.keys() - {"client"}:
        if isinstance(read[name], dict):
            assert recalled[name].keys() == read[name].keys(), name


def test_a_run_that_was_killed_right_after_its_start_is_summarised(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, done=0, accepted=0, summary=False)
    for path in (run_dir.journal, run_dir.results, run_dir.metrics):
        path.unlink()

    summary = read_summary(run_dir.path)
    assert summary["requests"]["unsent"] == summary["requests"]["total"] == 10


def test_reading_a_summary_changes_no_file(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, summary=False)
    with run_dir.results.open("ab") as results:
        results.write(b'{"torn')
    before = {path.name: path.read_bytes() for path in run_dir.path.iterdir()}

    read_summary(run_dir.path)
    assert {path.name: path.read_bytes() for path in run_dir.path.iterdir()} == before


@pytest.mark.parametrize("name", ["results.jsonl", "journal.jsonl"])
def test_a_summary_older_than_the_last_lines_is_not_used(tmp_path: Path, name: str) -> None:
    run_dir = make_run(tmp_path)
    stale = msgspec.json.decode(run_dir.summary.read_bytes())
    stale["requests"]["open"] = 99
    run_dir.summary.write_bytes(msgspec.json.encode(stale))
    make_newest(run_dir.path / name)

    summary = read_summary(run_dir.path)
    assert summary["requests"]["open"] == 2
    assert summary["run"]["status"] == "stopped"


@pytest.mark.parametrize("name", ["results.jsonl", "journal.jsonl"])
def test_an_older_summary_is_used_if_the_files_say_the_same(tmp_path: Path, name: str) -> None:
    run_dir = make_run(tmp_path)
    make_newest(run_dir.path / name)

    assert read_summary(run_dir.path) == msgspec.json.decode(run_dir.summary.read_bytes())


def test_a_run_in_progress_is_reported_as_running(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    run_dir.lock()
    try:
        assert read_summary(run_dir.path)["run"]["status"] == "running"
    finally:
        run_dir.unlock()


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_a_path_without_a_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(RunDirError, match="is not a run directory") as raised:
        report([str(tmp_path / name)], as_json=False)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}", b'{"run": {}}'])
def test_a_damaged_summary_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    run_dir = make_run(tmp_path)
    run_dir.summary.write_bytes(content)
    make_newest(run_dir.summary)

    with pytest.raises(RunDirError, match=r"summary\.json"):
        report([str(run_dir.path)], as_json=False)


def test_the_mode_of_a_killed_run_is_that_of_its_config(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, summary=False)
    text = run_dir.config.read_text()
    assert "mode: background" in text
    run_dir.config.write_text(text.replace("mode: background", "mode: batch"))

    assert read_summary(run_dir.path)["run"]["mode"] == "batch"
    run_dir.config.write_text("[")
    assert read_summary(run_dir.path)["run"]["mode"] == "background"


def test_the_cost_of_a_killed_run_follows_the_prices_of_its_config(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, summary=False)
    assert read_summary(run_dir.path)["cost_usd"] is None
    text = run_dir.config.read_text()
    assert "prices: null" in text
    run_dir.config.write_text(text.replace("prices: null", "prices: {input: 1.0, output: 2.0}"))

    assert read_summary(run_dir.path)["cost_usd"] == pytest.approx((70 * 1.0 + 140 * 2.0) / 1e6)


def test_the_summary_of_version_0_1_0_is_reported(tmp_path: Path) -> None:
    run_dir = copy_run("run-0.1.0a", tmp_path)
    shutil.copy(DATA / "summary-0.1.0a.json", run_dir.summary)
    make_newest(run_dir.summary)
    summary = read_summary(run_dir.path)

    assert summary == msgspec.json.decode(run_dir.summary.read_bytes())
    assert "| retried by hand            |                        3 |" in render([summary])


def test_a_killed_run_of_version_0_1_0_is_summarised(tmp_path: Path) -> None:
    summary = read_summary(copy_run("run-0.1.0a", tmp_path).path)
    requests = summary["requests"]

    assert {name: count for name, count in requests.items() if count} == {
        "total": 20,
        "completed": 6,
        "failed": 4,
        "open": 3,
        "unsent": 7,
    }
    assert (summary["run"]["status"], summary["run"]["retried"]) == ("stopped", 3)
    assert (
        summary["run"].keys()
        == msgspec.json.decode((DATA / "summary-0.1.0a.json").read_bytes())["run"].keys()
    )
    assert summary["cost_usd"] > 0
