"""What the commands say of batches: the cut before a run, what the service has, what cannot be cancelled."""

import json
import re
import signal
from collections.abc import Callable

import pytest

from runner.source.compiler import RESPONSES_URL
from tests.processes import Shell, Simulator


def table(text):
    """Rows of a Markdown table by the titles of its columns."""
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def batch_config(shell, simulator, **sections):
    target = {"base_url": simulator.base_url, "mode": "batch"}
    return shell.config(target=target, **sections)


def test_check_tells_the_cut_that_the_run_then_makes(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    config = batch_config(shell, simulator, source={"count": 95}, batch={"max_requests": 40})
    said = shell("check", config)
    assert said.returncode == 0
    found = re.search(r"batches +3, of 15 to 40 requests and ([\d.]+) to ([\d.]+) MB", said.stdout)
    assert found, said.stdout
    assert "2 uploads and 20 GETs at once, 8 batches open" in said.stdout
    assert "first request, row-0, in a batch: POST" in said.stdout
    assert '"background"' not in said.stdout
    assert simulator.stats()["batch_posts"] == 0

    assert shell("run", config).returncode == 0
    journal = (shell.cwd / "runs/t/journal.jsonl").read_text().splitlines()
    sizes = [entry["size_bytes"] for entry in map(json.loads, journal) if entry["event"] == "batch"]
    least, most = (f"{size / 1e6:,.3g}" for size in (min(sizes), max(sizes)))
    assert found.groups() == (least, most)


def test_check_tells_rows_that_fit_into_no_batch_and_ids_that_the_service_does_not_allow(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    rows = [{"custom_id": f"Row {i}", "input": "x" * (10 if i else 5_000)} for i in range(4)]
    (shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"type": "jsonl", "path": "rows.jsonl", "count": None}
    config = batch_config(shell, simulate(), source=source, batch={"max_bytes": 1_000})
    said = shell("check", config).stdout
    assert "1 rows fit into none (batch.max_bytes): they would end rejected" in said
    assert "3 rows go by another id there" in said


def test_check_says_how_lost_acknowledgements_are_dealt_with_where_there_are_no_keys(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    target = {"base_url": simulate().base_url, "mode": "batch", "idempotency_header": None}
    said = shell("check", shell.config(target=target)).stdout
    assert "a batch is looked for by its label" in said


def test_batches_of_the_service_are_listed_the_newest_first_with_their_progress(
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

    looks = simulator.stats()["batch_polls"]
    short = table(shell("batches", config, "--limit", "2").stdout)
    assert [row["batch"] for row in short] == [row["batch"] for row in rows[:2]]
    assert "progress" not in short[0]
    assert simulator.stats()["batch_polls"] == looks, "nobody asked for it"


def test_more_batches_than_a_page_holds_are_listed(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    config = batch_config(shell, simulator, source={"count": 205}, batch={"max_requests": 1, "max_open": 50})
    shell("run", config)
    rows = table(shell("batches", config, "--limit", "1000").stdout)
    assert len({row["batch"] for row in rows}) == 205


def test_a_service_without_batches_is_told_so(simulate: Callable[..., Simulator], shell: Shell) -> None:
    none = batch_config(shell, simulate())
    assert shell("batches", none).stdout == "the service has no batches\n"
    unlisted = batch_config(shell, simulate(batches={"listing": False}))
    said = shell("batches", unlisted)
    assert said.returncode == 3
    assert "the service lists no batches" in said.stderr
    assert said.stdout == ""


def test_a_refused_key_and_an_absent_service_are_told(
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


def test_open_batches_cannot_be_cancelled_and_are_told(
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
    assert "the Batch API has no call that cancels" in said.stderr


def test_rows_written_for_either_mode_go_into_a_batch(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    rows = [
        {
            "custom_id": "a",
            "method": "POST",
            "url": RESPONSES_URL,
            "body": {"input": "1", "background": True},
        },
        {"custom_id": "b", "params": {"input": "2"}},
        {"custom_id": "c", "input": "3", "background": False},
    ]
    (shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"type": "jsonl", "path": "rows.jsonl", "count": None}
    config = batch_config(shell, simulate(), source=source, request={"background": True})
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(3)
    assert {line["custom_id"] for line in shell.results()} == set("abc")
