"""What the commands say about batches: the cut before a run, the list, and what cannot be cancelled."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.processes import Shell, Simulator


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of a Markdown table, by the titles of its columns."""
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def batch_config(shell: Shell, simulator: Simulator, **sections: Mapping[str, object]) -> Path:
    return shell.config(target={"base_url": simulator.base_url, "mode": "batch"}, **sections)


def test_check_shows_the_cut_and_sends_nothing(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    config = batch_config(shell, simulator, source={"count": 95}, batch={"max_requests": 40})
    said = shell("check", config)
    assert said.returncode == 0
    assert re.search(r"batches +3, of 15 to 40 requests and [\d.]+ to [\d.]+ MB", said.stdout), said.stdout
    assert "2 uploads and 20 GETs at once, 8 batches open" in said.stdout
    assert "first request, row-0, in a batch: POST" in said.stdout
    assert '"background"' not in said.stdout
    assert simulator.stats()["batch_posts"] == 0


def test_check_counts_rows_that_fit_into_no_batch_and_rows_that_are_renamed(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    rows = [{"custom_id": f"Row {i}", "input": "x" * (10 if i else 5_000)} for i in range(4)]
    (shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"type": "jsonl", "path": "rows.jsonl", "count": None}
    config = batch_config(shell, simulate(), source=source, batch={"max_bytes": 1_000})
    said = shell("check", config).stdout
    assert "1 rows are larger than batch.max_bytes and would be rejected" in said
    assert "3 ids are renamed for the service, and kept in the results" in said


def test_check_says_what_happens_to_batches_without_an_acknowledgement_and_a_key(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    target = {"base_url": simulate().base_url, "mode": "batch", "idempotency_header": None}
    said = shell("check", shell.config(target=target)).stdout
    assert "after a lost acknowledgement, a batch is found by its label" in said


def test_the_batches_of_the_service_are_listed_newest_first_with_their_progress(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(outcomes={"failed": 0.5})
    config = batch_config(
        shell, simulator, source={"count": 50}, batch={"max_requests": 20, "concurrency": 1}
    )
    shell("run", config)
    shell("run", config, "--set", "name=other", "--set", "source.count=7")
    said = shell("batches", config, "--status")
    assert said.returncode == 0
    rows = table(said.stdout)
    assert [row["requests"] for row in rows] == ["7", "10", "20", "20"]
    assert [("(this run)" in row["label"]) for row in rows] == [False, True, True, True]
    assert all(re.fullmatch(r"\d+ s", row["age"]) for row in rows)
    for row in rows:
        counts = {word: int(count) for count, word in (part.split() for part in row["progress"].split(", "))}
        assert sum(counts.values()) == int(row["requests"])
        assert counts.keys() <= {"completed", "failed"}
    assert simulator.stats()["batch_lists"] >= 1

    polls = simulator.stats()["batch_polls"]
    short = table(shell("batches", config, "--limit", "2").stdout)
    assert [row["batch"] for row in short] == [row["batch"] for row in rows[:2]]
    assert "progress" not in short[0]
    assert simulator.stats()["batch_polls"] == polls, "progress was not asked for"


def test_more_batches_than_a_page_holds_are_listed(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    config = batch_config(
        shell, simulator, source={"count": 205}, batch={"max_requests": 1, "max_open": 205, "concurrency": 8}
    )
    shell("run", config)
    rows = table(shell("batches", config, "--limit", "1000").stdout)
    assert len({row["batch"] for row in rows}) == 205


def test_a_service_without_batches_and_one_without_a_list_are_reported(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    none = batch_config(shell, simulate())
    assert shell("batches", none).stdout == "the service has no batches\n"
    unlisted = batch_config(shell, simulate(batches={"listing": False}))
    said = shell("batches", unlisted)
    assert said.returncode == 3
    assert "the service lists no batches" in said.stderr
    assert said.stdout == ""


def test_a_refused_key_and_an_absent_service_are_reported(
    simulate: Callable[..., Simulator], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_KEY", "sk-the-right-one-0123")
    refusing = batch_config(shell, simulate(api_key_env="ONLY_KEY"))
    said = shell("batches", refusing)
    assert said.returncode == 3
    assert "check the key in SAIL_API_KEY" in said.stderr
    retry = {"submit": {"retry": {"base_s": 0.01, "cap_s": 0.01}}}
    absent = shell.config(target={"base_url": "http://127.0.0.1:1/v1", "mode": "batch"}, **retry)
    said = shell("batches", absent)
    assert said.returncode == 3
    assert "no Batch API answers there" in said.stderr


def test_outstanding_batches_cannot_be_cancelled_and_are_counted(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 60})
    config = batch_config(
        shell, simulator, source={"count": 30}, batch={"max_requests": 20}, limits={"drain_s": 0}
    )
    process = shell.start("run", config)
    shell.wait_for(process, lambda: simulator.stats()["batches"] == 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "30 jobs are still open at the service, and billable; a batch cannot be cancelled" in errors
    said = shell("cancel", "runs/t")
    assert said.returncode == 1
    assert said.stdout == "30 requests in 2 batches are open\n"
    assert "the Batch API cannot cancel; `runner run` collects the results" in said.stderr
