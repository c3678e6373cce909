"""`runner run` from its config to its last words; a service in memory does the work."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
from collections.abc import Coroutine
from typing import Any

import pytest

from runner.commands import run as run_module
from runner.commands.result import CommandResult
from runner.engine.task import Task
from runner.errors import ConfigError, Interrupted, Problem, RunDirError, StorageError
from runner.measure.outputs.progress import Progress
from runner.session.clock import Clock
from runner.session.session import SessionOutcome
from runner.session.shutdown import Shutdown
from runner.transport.fake import Fake, Script, rejected, unauthorised
from tests.commands.here import Here
from tests.engine.session_worker import SessionWorker


def test_a_run_whose_rows_all_complete_ends_with_0_and_its_report(here: Here) -> None:
    result = here.run()

    assert result.exit_code == 0
    assert result.messages == ("results are in runs/t/results.jsonl",)
    assert "| completed" in result.output
    assert sorted(line["row"] for line in here.results()) == list(range(10))
    assert here.summary()["run"]["status"] == "complete"
    assert here.fake.is_closed


def test_rows_that_do_not_complete_make_it_1_and_can_be_retried(here: Here) -> None:
    here.serve(ends=lambda job: "failed" if job.number <= 3 else "completed")
    result = here.run()

    assert result.exit_code == 1
    assert result.messages == (
        "results are in runs/t/results.jsonl",
        "3 did not end completed; --retry failed retries them",
    )


def test_quiet_says_nothing_unless_something_is_wrong(here: Here, capfd: pytest.CaptureFixture[str]) -> None:
    assert here.run(quiet=True) == CommandResult(0)
    here.serve(ends="expired")
    result = here.run(quiet=True, new=True)
    assert (result.exit_code, result.output) == (1, "")
    assert "10 did not end completed" in result.messages[-1]
    assert capfd.readouterr() == ("", "")


def test_progress_and_notes_go_to_stderr(here: Here, capfd: pytest.CaptureFixture[str]) -> None:
    here.run()
    out, err = capfd.readouterr()
    assert out == ""
    assert "submitted 10/10" in err


def test_a_complete_run_sends_nothing_and_its_summary_stays(here: Here) -> None:
    here.run()
    written = here.run_dir.summary.read_bytes()
    here.serve()
    result = here.run()

    assert result.exit_code == 0
    assert result.messages == ("runs/t is complete: nothing was sent; --new starts over",)
    assert here.fake.exchanges == []
    assert here.run_dir.summary.read_bytes() == written


def test_a_summary_that_a_kill_prevented_is_written_when_nothing_is_left_to_do(here: Here) -> None:
    here.run()
    here.run_dir.summary.unlink()
    assert here.run().exit_code == 0
    assert here.summary()["run"]["status"] == "complete"


def test_a_limit_sends_the_first_rows_and_a_later_run_the_rest(here: Here) -> None:
    here.run(limit=4)
    assert sorted(line["row"] for line in here.results()) == [0, 1, 2, 3]
    here.run(limit=2)
    assert len(here.fake.posts) == 4
    here.run()
    assert len(here.fake.posts) == 10


def test_new_keeps_the_earlier_run_under_another_name(here: Here, capfd: pytest.CaptureFixture[str]) -> None:
    here.run()
    before = here.run_dir.results.read_bytes()
    assert here.run(new=True).exit_code == 0
    assert "the earlier run is kept in" in capfd.readouterr().err
    assert (here.path / "runs/t.1/results.jsonl").read_bytes() == before
    assert here.run(here.config(sink={"on_existing": "new"})).exit_code == 0
    assert (here.path / "runs/t.2/results.jsonl").exists()


def test_on_existing_fail_refuses_a_run_that_exists_unless_it_is_a_retry(here: Here) -> None:
    config = here.config(sink={"on_existing": "fail"})
    assert here.run(config).exit_code == 0
    with pytest.raises(
        RunDirError, match=r"runs/t: the run exists already \(sink.on_existing is fail; start over"
    ):
        here.run(config)
    assert here.run(config, retry=("failed",)).exit_code == 0


def test_other_requests_than_before_are_refused_and_what_changed_is_named(here: Here) -> None:
    here.run()
    with pytest.raises(RunDirError, match="changed since this run began: request"):
        here.run(here.config(request={"model": "other"}))
    here.monkeypatch.setenv("SAIL_API_KEY", "sk-another-key-entirely")
    with pytest.raises(RunDirError, match=r"the API key \(SAIL_API_KEY\)"):
        here.run()


def test_while_nothing_was_accepted_the_config_may_change(
    here: Here, capfd: pytest.CaptureFixture[str]
) -> None:
    here.serve(Script(submit=lambda _: unauthorised()))
    assert here.run().exit_code == 3
    here.serve()
    assert here.run(here.config(request={"model": "other"})).exit_code == 0
    assert "nothing was accepted so far: the run starts over with what changed" in capfd.readouterr().err


def test_a_run_that_another_process_works_on_is_refused(here: Here) -> None:
    here.run()
    here.run_dir.lock()
    with pytest.raises(RunDirError, match=f"another process .pid {os.getpid()}. is running this run"):
        here.run()


def test_errors_in_the_input_leave_no_directory(here: Here) -> None:
    here.monkeypatch.delenv("SAIL_API_KEY")
    with pytest.raises(ConfigError, match="SAIL_API_KEY"):
        here.run()
    assert list(here.path.iterdir()) == []


def test_a_torn_last_line_is_cut_and_reported(here: Here, capfd: pytest.CaptureFixture[str]) -> None:
    here.run(limit=5)
    with here.run_dir.journal.open("ab") as file:
        file.write(b'{"event":"int')
    here.run()
    said = capfd.readouterr().err
    assert "cut 13 bytes of a torn last line of journal.jsonl" in said
    assert "continuing runs/t: 5 done, 0 open, 0 to be confirmed" in said


def test_an_error_that_stops_the_run_is_its_first_message_and_its_exit_code(here: Here) -> None:
    here.serve(Script(submit={3: unauthorised()}))
    result = here.run(here.config(submit={"concurrency": 1}))

    assert result.exit_code == 3
    assert "the service refuses the API key" in result.messages[0]
    assert "continue with the same command; results so far are in runs/t/results.jsonl" in result.messages[-1]
    assert here.summary()["run"]["status"] == "stopped"


def test_a_run_of_which_nothing_was_accepted_cannot_be_continued(here: Here) -> None:
    here.serve(Script(submit=lambda _: rejected("no such model")))
    result = here.run()
    assert result.exit_code == 3
    assert "start over with --new" in result.messages[0]
    assert not [line for line in result.messages if "continue with the same command" in line]


def test_a_signal_is_handed_to_the_session_and_open_jobs_are_counted(here: Here) -> None:
    here.serve(takes_s=math.inf)
    result = here.run_until(lambda: len(here.fake.jobs_made) == 10)

    assert result.exit_code == 130
    assert result.messages == (
        "interrupted by SIGINT",
        "10 jobs are still open at the service, and billable; `runner cancel runs/t` asks it to end them",
        "continue with the same command; results so far are in runs/t/results.jsonl",
    )
    assert here.summary()["requests"]["open"] == 10


class BrokenEngine:
    """An engine whose files fail when it is nearly done."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.shutdown = Shutdown(
            task.history.in_flight,
            is_complete=lambda: False,
            is_idle=lambda: True,
            drain_s=0.0,
            say=print,
            on_draining=lambda: None,
            on_stopping=lambda _: None,
            on_forced=lambda: None,
        )

    async def run(self, *beside: Coroutine[Any, Any, None]) -> SessionOutcome:
        for coroutine in beside:
            coroutine.close()
        self._task.history.meter.counts.polls = 7
        raise StorageError(Problem("cannot be closed", "results.jsonl"))


def test_an_engine_that_raises_is_summed_up_all_the_same(here: Here) -> None:
    def broken(task: Task, progress: Progress, clock: Clock) -> BrokenEngine:
        return BrokenEngine(task)

    here.monkeypatch.setattr(run_module, "_engine_for", broken)
    result = here.run()

    assert result.exit_code == 3
    assert result.messages[0] == "results.jsonl: cannot be closed"
    assert here.summary()["polls"]["total"] == 7
    last = json.loads(here.run_dir.metrics.read_bytes().splitlines()[-1])
    assert last["polls"] == 7, "the last sample is written all the same"


def test_the_collector_is_tuned_once_the_transport_is_loaded(here: Here) -> None:
    # Tuned before, it would keep the garbage of the SDK's import: 75 MB.
    order: list[str] = []

    def opened(*_: object) -> Fake:
        order.append("transport")
        return here.fake

    here.monkeypatch.setattr(run_module, "open_transport", opened)
    here.monkeypatch.setattr(run_module, "tune_gc", lambda: order.append("collector"))

    assert here.run().exit_code == 0
    assert order == ["transport", "collector"]


def test_several_workers_share_the_rows_under_one_coordinator(here: Here) -> None:
    here.monkeypatch.setattr(
        "runner.engine.subprocess_worker.SubprocessWorker", lambda _: SessionWorker(here.fake)
    )
    result = here.run(here.config(engine={"workers": 3}, source={"count": 300}))

    assert result.exit_code == 0
    assert result.messages == ("results are in runs/t/results*.jsonl",)
    assert len(here.results()) == 300
    assert len(here.run_dir.all_results) == 4


def test_a_signal_while_the_address_is_opened_ends_the_run_before_anything_is_sent(here: Here) -> None:
    async def opening(*_: object) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    here.monkeypatch.setattr(run_module, "open_base_url", opening)
    result = here.run()
    assert result.exit_code == 143
    assert here.fake.exchanges == []
    assert here.summary()["run"]["status"] == "interrupted"


def test_an_interruption_is_an_error_with_its_signal() -> None:
    assert (Interrupted(signal.SIGTERM).exit_code, str(Interrupted(2))) == (143, "interrupted by SIGINT")


@pytest.mark.parametrize("new", [False, True])
def test_a_run_whose_manifest_is_lost_is_not_taken_for_a_new_one(here: Here, new: bool) -> None:
    here.run()
    here.run_dir.manifest.unlink()
    if new:
        assert here.run(new=True).exit_code == 0
        assert (here.path / "runs/t.1/results.jsonl").exists()
        assert len(here.fake.posts) == 20
    else:
        with pytest.raises(RunDirError, match=r"manifest\.json"):
            here.run()
        assert len(here.fake.posts) == 10


def test_counts_add_up_over_sessions_and_absence_is_no_latency(here: Here) -> None:
    here.serve(takes_s=math.inf)
    for polls in (20, 40):
        assert here.run_until(lambda: len(here.fake.gets) >= polls).exit_code == 130  # noqa: B023 - called at once
    polls = here.summary()["polls"]["total"]
    assert polls > 0
    for job in here.fake.jobs_made:
        job.ends_mono = 0.0
    result = here.run()

    summary = here.summary()
    assert result.exit_code == 0
    assert summary["run"]["continued"] == 2
    assert summary["run"]["spanned_a_stop"] == 10
    assert summary["latency_s"]["completion"]["max"] is None
    assert summary["polls"]["total"] == len(here.fake.gets) > polls
    assert len(here.fake.posts) == 10
