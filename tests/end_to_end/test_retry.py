"""`runner run --retry`: rows that ended badly get another try, and nothing else is touched."""

import json
import signal

import pytest

from runner.store import RunDir, read_marks


@pytest.fixture
def ended(simulate, runner):
    """A run of 60 rows, some of which failed; the simulator and the config."""
    simulator = simulate(outcomes={"failed": 0.3})
    config = runner.config(target={"base_url": simulator.base_url}, source={"count": 60})
    assert runner("run", config).returncode == 1
    return simulator, config


def by_row(runner):
    lines = {line["row"]: line for line in runner.results()}
    assert len(lines) == len(runner.results()), "one line a row"
    return lines


def failed_rows(runner):
    return {row for row, line in by_row(runner).items() if line["status"] == "failed"}


def test_failed_rows_are_sent_anew_under_new_keys_until_all_have_completed(ended, runner):
    simulator, config = ended
    first = failed_rows(runner)
    lines_before = set((runner.cwd / "runs/t/results.jsonl").read_bytes().splitlines())
    tokens_before = runner.summary()["tokens"]["output"]
    tries = 0
    while failed := failed_rows(runner):
        done = runner("run", config, "--retry", "failed")
        assert f"{len(failed)} rows that ended failed are tried again" in done.stderr
        tries += 1
    assert done.returncode == 0
    after = by_row(runner)
    assert sorted(after) == list(range(60))
    assert {line["status"] for line in after.values()} == {"completed"}
    assert all((after[row].get("epoch", 0) > 0) == (row in first) for row in after)
    kept = set((runner.cwd / "runs/t/results.jsonl").read_bytes().splitlines())
    assert len(kept & lines_before) == 60 - len(first), "every other line is as it was"
    account = simulator.account()
    assert account["executed"] == account["posts"] == 60 + account["posts"] - 60
    assert account["replayed"] == 0
    keys = [job["idempotency_key"] for job in simulator.jobs()]
    assert len(set(keys)) == len(keys) == account["executed"]
    superseded = (runner.cwd / "runs/t/superseded.jsonl").read_bytes().splitlines()
    assert len(superseded) == account["executed"] - 60
    summary = runner.summary()
    assert summary["requests"]["completed"] == 60
    assert summary["run"]["retried"] == len(first)
    assert summary["tokens"]["output"] > tokens_before
    assert json.loads(runner("report", "runs/t", "--json").stdout)["requests"] == summary["requests"]


def test_a_retry_that_is_killed_goes_on_with_the_plain_command(ended, runner):
    simulator, config = ended
    failed = failed_rows(runner)
    process = runner.start("run", config, "--retry", "failed")
    runner.wait_for(process, lambda: simulator.account()["posts"] > 60)
    process.kill()
    process.communicate()
    report = json.loads(runner("report", "runs/t", "--json").stdout)
    assert report["requests"]["total"] == 60
    runner("run", config)
    assert sorted(by_row(runner)) == list(range(60))
    account = simulator.account()
    assert account["executed"] == 60 + len(failed)
    assert set(read_marks(RunDir(runner.cwd / "runs/t").journal).epochs) == failed


def test_only_the_named_statuses_are_tried_again(simulate, runner):
    simulator = simulate(outcomes={"failed": 0.3, "expired": 0.3, "incomplete": 0.3})
    config = runner.config(target={"base_url": simulator.base_url}, source={"count": 60})
    assert runner("run", config).returncode == 1
    before = by_row(runner)
    runner("run", config, "--retry", "expired,incomplete")
    after = by_row(runner)
    for row, line in before.items():
        assert (after[row] == line) == (line["status"] in ("completed", "failed"))


def test_tokens_of_a_superseded_result_were_paid_for_and_stay_counted(simulate, runner):
    simulator = simulate(outcomes={"incomplete": 1.0})
    config = runner.config(target={"base_url": simulator.base_url}, source={"count": 10})
    assert runner("run", config).returncode == 1
    before = runner.summary()["tokens"]
    assert before["output"] > 0
    runner("run", config, "--retry", "incomplete")
    assert runner.summary()["tokens"] == {name: 2 * count for name, count in before.items()}
    assert runner.summary()["requests"]["incomplete"] == 10


def test_nothing_to_try_again_sends_nothing(ended, runner):
    simulator, config = ended
    posts = simulator.account()["posts"]
    done = runner("run", config, "--retry", "uncertain,cancelled")
    assert done.returncode == 1
    assert "no row ended uncertain or cancelled" in done.stderr
    assert simulator.account()["posts"] == posts


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--retry", "completed"], "'completed' is none of"),
        (["--retry", "failed,wrong"], "'wrong' is none of"),
        (["--retry", "failed", "--new"], "not allowed with"),
    ],
)
def test_what_cannot_be_tried_again_is_refused(runner, arguments, said):
    done = runner("run", runner.config(), *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_without_a_run_there_is_nothing_to_try_again(simulate, runner):
    simulator = simulate()
    done = runner("run", runner.config(target={"base_url": simulator.base_url}), "--retry", "failed")
    assert done.returncode == 2
    assert "there is no run to try again" in done.stderr
    assert not (runner.cwd / "runs").exists()


def test_an_unfinished_run_is_continued_and_its_failed_rows_tried_again(simulate, runner):
    simulator = simulate(outcomes={"failed": 0.5}, latency={"type": "constant", "mean_s": 0.1})
    config = runner.config(
        target={"base_url": simulator.base_url}, source={"count": 80}, submit={"max_in_flight": 10}
    )
    assert runner.stop_after(20, "run", config, signum=signal.SIGINT) == 130
    runner("run", config, "--retry", "failed")
    assert sorted(by_row(runner)) == list(range(80))
    # A row that failed only after the retry began keeps that as its last word.
    assert all(line.get("epoch", 0) in (0, 1) for line in runner.results())


def test_after_a_retry_that_could_not_start_nothing_may_be_changed(ended, runner):
    simulator, config = ended
    simulator.kill()
    statuses = ",".join({line["status"] for line in runner.results()} - {"completed"})
    (runner.cwd / "runs/t/results.jsonl").write_bytes(
        b"".join(
            line
            for line in (runner.cwd / "runs/t/results.jsonl").read_bytes().splitlines(keepends=True)
            if b'"status":"failed"' in line
        )
    )
    journal = runner.cwd / "runs/t/journal.jsonl"
    failed = {str(line["row"]) for line in runner.results()}
    kept = [line for line in journal.read_text().splitlines(keepends=True) if row_of(line) in {*failed, None}]
    journal.write_text("".join(kept))
    assert runner("run", config, "--retry", statuses).returncode == 3
    changed = runner("run", config, "--set", "request.max_output_tokens=7")
    assert changed.returncode == 2
    assert "changed since this run began" in changed.stderr


def row_of(line):
    entry = json.loads(line)
    return str(entry["row"]) if "row" in entry else None
