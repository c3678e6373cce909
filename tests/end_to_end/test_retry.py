"""`runner run --retry`: rows that ended badly get another try, and nothing else is touched."""

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from runner.store import RunDir, read_marks
from tests.processes import Shell, Simulator


@pytest.fixture
def ended(simulate: Callable[..., Simulator], shell: Shell):
    """A run of 60 rows, some of which failed; the simulator and the config."""
    simulator = simulate(outcomes={"failed": 0.3})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 60})
    assert shell("run", config).returncode == 1
    return simulator, config


def by_row(shell):
    lines = {line["row"]: line for line in shell.results()}
    assert len(lines) == len(shell.results()), "one line a row"
    return lines


def failed_rows(shell):
    return {row for row, line in by_row(shell).items() if line["status"] == "failed"}


def test_failed_rows_are_sent_anew_under_new_keys_until_all_have_completed(ended: Any, shell: Shell) -> None:
    simulator, config = ended
    first = failed_rows(shell)
    lines_before = set((shell.cwd / "runs/t/results.jsonl").read_bytes().splitlines())
    tokens_before = shell.summary()["tokens"]["output"]
    tries = 0
    while failed := failed_rows(shell):
        done = shell("run", config, "--retry", "failed")
        assert f"{len(failed)} failed rows are retried" in done.stderr
        tries += 1
    assert done.returncode == 0
    after = by_row(shell)
    assert sorted(after) == list(range(60))
    assert {line["status"] for line in after.values()} == {"completed"}
    assert all((after[row].get("epoch", 0) > 0) == (row in first) for row in after)
    kept = set((shell.cwd / "runs/t/results.jsonl").read_bytes().splitlines())
    assert len(kept & lines_before) == 60 - len(first), "every other line is as it was"
    stats = simulator.stats()
    assert stats["executed"] == stats["posts"] == 60 + stats["posts"] - 60
    assert stats["replayed"] == 0
    keys = [job["idempotency_key"] for job in simulator.jobs()]
    assert len(set(keys)) == len(keys) == stats["executed"]
    superseded = (shell.cwd / "runs/t/superseded.jsonl").read_bytes().splitlines()
    assert len(superseded) == stats["executed"] - 60
    summary = shell.summary()
    assert summary["requests"]["completed"] == 60
    assert summary["run"]["retried"] == len(first)
    assert summary["tokens"]["output"] > tokens_before
    assert json.loads(shell("report", "runs/t", "--json").stdout)["requests"] == summary["requests"]


def test_a_retry_that_is_killed_goes_on_with_the_plain_command(ended: Any, shell: Shell) -> None:
    simulator, config = ended
    failed = failed_rows(shell)
    process = shell.start("run", config, "--retry", "failed")
    shell.wait_for(process, lambda: simulator.stats()["posts"] > 60)
    process.kill()
    process.communicate()
    report = json.loads(shell("report", "runs/t", "--json").stdout)
    assert report["requests"]["total"] == 60
    shell("run", config)
    assert sorted(by_row(shell)) == list(range(60))
    stats = simulator.stats()
    assert stats["executed"] == 60 + len(failed)
    assert set(read_marks(RunDir(shell.cwd / "runs/t").journal).epochs) == failed


def test_only_the_named_statuses_are_tried_again(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(outcomes={"failed": 0.3, "expired": 0.3, "incomplete": 0.3})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 60})
    assert shell("run", config).returncode == 1
    before = by_row(shell)
    shell("run", config, "--retry", "expired,incomplete")
    after = by_row(shell)
    for row, line in before.items():
        assert (after[row] == line) == (line["status"] in ("completed", "failed"))


def test_tokens_of_a_superseded_result_were_paid_for_and_stay_counted(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(outcomes={"incomplete": 1.0})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 10})
    assert shell("run", config).returncode == 1
    before = shell.summary()["tokens"]
    assert before["output"] > 0
    shell("run", config, "--retry", "incomplete")
    assert shell.summary()["tokens"] == {name: 2 * count for name, count in before.items()}
    assert shell.summary()["requests"]["incomplete"] == 10


def test_nothing_to_try_again_sends_nothing(ended: Any, shell: Shell) -> None:
    simulator, config = ended
    posts = simulator.stats()["posts"]
    done = shell("run", config, "--retry", "uncertain,cancelled")
    assert done.returncode == 1
    assert "no row is uncertain or cancelled" in done.stderr
    assert simulator.stats()["posts"] == posts


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--retry", "completed"], "'completed' is none of"),
        (["--retry", "failed,wrong"], "'wrong' is none of"),
        (["--retry", "failed", "--new"], "not allowed with"),
    ],
)
def test_what_cannot_be_tried_again_is_refused(shell: Shell, arguments: Any, said: str) -> None:
    done = shell("run", shell.config(), *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_without_a_run_there_is_nothing_to_try_again(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    done = shell("run", shell.config(target={"base_url": simulator.base_url}), "--retry", "failed")
    assert done.returncode == 2
    assert "there is no run to retry" in done.stderr
    assert not (shell.cwd / "runs").exists()


def test_an_unfinished_run_is_continued_and_its_failed_rows_tried_again(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(outcomes={"failed": 0.5}, latency={"type": "constant", "mean_s": 0.1})
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 80}, submit={"max_in_flight": 10}
    )
    assert shell.stop_after(20, "run", config, signum=signal.SIGINT) == 130
    shell("run", config, "--retry", "failed")
    assert sorted(by_row(shell)) == list(range(80))
    # A row that failed only after the retry began keeps that as its last word.
    assert all(line.get("epoch", 0) in (0, 1) for line in shell.results())


def test_after_a_retry_that_could_not_start_nothing_may_be_changed(ended: Any, shell: Shell) -> None:
    simulator, config = ended
    simulator.kill()
    statuses = ",".join({line["status"] for line in shell.results()} - {"completed"})
    (shell.cwd / "runs/t/results.jsonl").write_bytes(
        b"".join(
            line
            for line in (shell.cwd / "runs/t/results.jsonl").read_bytes().splitlines(keepends=True)
            if b'"status":"failed"' in line
        )
    )
    journal = shell.cwd / "runs/t/journal.jsonl"
    failed = {str(line["row"]) for line in shell.results()}
    kept = [line for line in journal.read_text().splitlines(keepends=True) if row_of(line) in {*failed, None}]
    journal.write_text("".join(kept))
    assert shell("run", config, "--retry", statuses).returncode == 3
    changed = shell("run", config, "--set", "request.max_output_tokens=7")
    assert changed.returncode == 2
    assert "changed since this run began" in changed.stderr


def row_of(line):
    entry = json.loads(line)
    return str(entry["row"]) if "row" in entry else None
