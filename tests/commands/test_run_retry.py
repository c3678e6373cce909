"""`runner run --retry`: rows with some statuses are sent again, and nothing else changes."""

from __future__ import annotations

import pytest

from runner.errors import RunDirError
from runner.transport.fake import Script, unauthorised
from tests.commands.here import Here


def test_a_retry_sends_the_rows_with_these_statuses_and_no_others(
    here: Here, capfd: pytest.CaptureFixture[str]
) -> None:
    here.serve(ends=lambda job: ("failed", "expired", "completed")[job.number % 3])
    here.run()
    failed = {line["row"] for line in here.results() if line["status"] == "failed"}
    here.serve()
    assert here.run(retry=("failed",)).exit_code == 1
    assert f"{len(failed)} failed rows are retried" in capfd.readouterr().err
    assert len(here.fake.posts) == len(failed)
    assert {line["row"] for line in here.results() if line.get("epoch")} == failed


def test_a_retry_of_statuses_that_no_row_has_sends_nothing(here: Here) -> None:
    here.run()
    here.serve()
    result = here.run(retry=("uncertain", "cancelled"))
    assert result.messages[0] == "no row is uncertain or cancelled"
    assert here.fake.exchanges == []


def test_without_a_run_there_is_nothing_to_retry(here: Here) -> None:
    with pytest.raises(RunDirError, match=r"runs/t: there is no run to retry \(leave --retry out\)"):
        here.run(retry=("failed",))
    assert not (here.path / "runs").exists()


def test_retries_have_new_keys_and_what_they_replace_stays_paid_for(here: Here) -> None:
    here.serve(ends=lambda job: "incomplete" if job.number <= 4 else "completed")
    here.run()
    first, before = here.fake, here.summary()
    lines = {line["row"]: line for line in here.results()}
    here.serve()
    assert here.run(retry=("incomplete",)).exit_code == 0

    after = here.summary()
    assert here.statuses() == {"completed": 10}
    kept = [line for line in here.results() if line == lines[line["row"]]]
    assert len(kept) == 6, "other lines are as they were"
    assert len({post.key for post in (*first.posts, *here.fake.posts)}) == 14
    assert len(here.run_dir.superseded.read_bytes().splitlines()) == 4
    assert after["run"]["retried"] == 4
    assert after["tokens"]["output"] == before["tokens"]["output"] * 14 // 10


def test_a_budget_counts_what_was_paid_for_before_a_retry(here: Here) -> None:
    here.serve(ends="incomplete")
    prices = {"output": 1e6}
    here.run(here.config(prices=prices))
    spent = here.summary()["cost_usd"]
    result = here.run(here.config(prices=prices, limits={"max_cost_usd": 1.3 * spent}), retry=("incomplete",))

    assert result.exit_code == 3
    assert "limits.max_cost_usd" in result.messages[0]
    assert spent < here.summary()["cost_usd"] <= 1.3 * spent


def test_after_a_retry_that_could_not_start_the_config_may_not_change(here: Here) -> None:
    here.serve(ends="failed")
    here.run()
    here.serve(Script(submit=lambda _: unauthorised()))
    assert here.run(retry=("failed",)).exit_code == 3
    assert here.results() == []
    with pytest.raises(RunDirError, match="changed since this run began"):
        here.run(here.config(request={"model": "other"}))


def test_an_unfinished_run_is_continued_and_its_failed_rows_retried(here: Here) -> None:
    here.serve(ends="failed")
    here.run(limit=4)
    here.serve()
    assert here.run(retry=("failed",)).exit_code == 0
    assert here.statuses() == {"completed": 10}
    assert {line["row"] for line in here.results() if line.get("epoch")} == {0, 1, 2, 3}
