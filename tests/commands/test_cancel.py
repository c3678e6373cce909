"""`runner cancel` before a service in memory: what it says, which exit code it has, what it leaves."""

from __future__ import annotations

import math
import os
import signal

import pytest

from runner.errors import RunDirError
from runner.transport.fake import Behaviour, Fake, Script, rejected
from tests.commands.here import Here, interrupted_when


def test_every_open_job_is_cancelled_and_has_its_line(here: Here) -> None:
    here.leave_open(10)
    result = here.cancel()

    assert result.exit_code == 0
    assert result.output == (
        "10 cancelled, 0 had ended or ended meanwhile (results kept), 0 unknown to the service, 0 still open"
    )
    assert result.messages == ()
    assert here.statuses() == {"cancelled": 10}
    summary = here.summary()
    assert (summary["run"]["status"], summary["requests"]["cancelled"]) == ("complete", 10)
    assert here.fake.is_closed


def test_afterwards_nothing_is_open(here: Here) -> None:
    here.leave_open(3)
    here.cancel()
    here.serve()
    result = here.cancel()
    assert (result.exit_code, result.output, result.messages) == (0, "no job is open", ())
    assert here.fake.exchanges == []


def test_jobs_that_have_ended_keep_their_results(here: Here) -> None:
    here.leave_open(6)
    for job in here.fake.jobs_made[:2]:
        job.ends_mono = 0.0
    result = here.cancel()
    assert result.exit_code == 0
    assert result.output.startswith("4 cancelled, 2 had ended or ended meanwhile (results kept)")
    assert here.statuses() == {"completed": 2, "cancelled": 4}


def test_a_service_that_cannot_cancel_leaves_them_open(here: Here) -> None:
    here.leave_open(5, cancel_s=None)
    result = here.cancel()
    assert result.exit_code == 1
    assert result.output.endswith("5 still open")
    assert result.messages == ("not cancelled: Jobs cannot be cancelled.",)
    assert here.summary()["requests"]["open"] == 5
    assert here.summary()["run"]["status"] == "stopped"


def test_jobs_that_the_service_does_not_know_are_left_for_the_run_to_judge(here: Here) -> None:
    here.leave_open(5)
    for job in here.fake.jobs_made:
        job.is_lost = True
    result = here.cancel()
    assert (result.exit_code, result.messages) == (0, ())
    assert result.output.endswith("5 unknown to the service, 0 still open")
    assert here.results() == []


def test_rows_that_were_never_sent_stay_unsent(here: Here) -> None:
    here.serve(takes_s=math.inf)
    config = here.config(source={"count": 20}, submit={"max_in_flight": 5}, limits={"drain_s": 0})
    here.run_until(lambda: len(here.fake.jobs_made) == 5, config)
    assert here.cancel().exit_code == 0
    requests = here.summary()["requests"]
    assert (requests["cancelled"], requests["unsent"], requests["open"]) == (5, 15, 0)
    here.serve()
    assert here.run(here.config(source={"count": 20}), retry=("cancelled",)).exit_code == 0
    assert here.statuses() == {"completed": 20}


def test_requests_without_an_acknowledgement_cannot_be_cancelled_and_are_reported(here: Here) -> None:
    here.serve()
    here.fake = Fake(Behaviour(takes_s=math.inf), latency_s=lambda it: math.inf if it.number > 2 else 0.0)
    config = here.config(source={"count": 5}, limits={"drain_s": 0})
    here.run_until(lambda: len(here.fake.posts) == 5, config)
    here.fake.latency_s = 0.0
    result = here.cancel()
    assert result.output.startswith("2 cancelled")
    assert result.messages == (
        "3 requests were sent without an acknowledgement: they have no id to cancel them by",
    )


def test_batches_cannot_be_cancelled(here: Here) -> None:
    here.serve(takes_s=math.inf)
    config = here.config(
        source={"count": 30},
        target={"mode": "batch"},
        batch={"max_requests": 20},
        limits={"drain_s": 0},
    )
    here.run_until(lambda: len(here.fake.batches_made) == 2, config)
    result = here.cancel()
    assert result.exit_code == 1
    assert result.output == "30 requests in 2 batches are open"
    assert result.messages == ("the Batch API cannot cancel; `runner run` collects the results",)


def test_it_gives_up_when_its_time_is_over(here: Here) -> None:
    here.leave_open(5, cancel_s=math.inf)
    result = here.cancel(timeout_s=0.3)
    assert result.exit_code == 1
    assert result.output.endswith("5 still open")
    assert len(here.fake.of("cancel")) == 5


def test_an_address_where_nobody_answers_ends_it_with_3(here: Here) -> None:
    here.leave_open(5)
    here.fake.down_mono = [(0.0, math.inf)]
    result = here.cancel(timeout_s=0.3)
    assert result.exit_code == 3
    assert "no Responses API answers there" in result.messages[0]
    assert result.output.endswith("5 still open")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_what_came_is_kept(here: Here, signum: signal.Signals, code: int) -> None:
    here.leave_open(5, cancel_s=math.inf)
    here.fake.jobs_made[0].ends_mono = 0.0

    with interrupted_when(lambda: bool(here.results()), signum):
        result = here.cancel()
    assert result.exit_code == code
    assert result.messages[0] == f"interrupted by {signum.name}"
    assert here.statuses() == {"completed": 1}


def test_one_job_that_is_refused_does_not_hold_up_the_others(here: Here) -> None:
    here.leave_open(8)
    here.fake.script = Script(cancel={3: rejected("already being delivered", 409)})
    result = here.cancel()
    assert result.exit_code == 1
    assert result.output.startswith("7 cancelled, 0 had ended")
    assert result.messages == ("not cancelled: already being delivered",)


def test_limits_of_the_run_do_not_end_it(here: Here) -> None:
    here.leave_open(5)
    config = here.run_dir.config
    config.write_text(config.read_text().replace("max_failures: null", "max_failures: 1"))
    assert here.cancel().output.startswith("5 cancelled")


def test_a_torn_last_line_is_cut_and_reported(here: Here, capfd: pytest.CaptureFixture[str]) -> None:
    here.leave_open(2)
    with here.run_dir.journal.open("ab") as file:
        file.write(b'{"event":"acc')
    assert here.cancel().output.startswith("2 cancelled")
    assert "cut 13 bytes of a torn last line of journal.jsonl" in capfd.readouterr().err


def test_another_key_is_refused_before_anything_is_sent(here: Here) -> None:
    here.leave_open(2)
    here.monkeypatch.setenv("SAIL_API_KEY", "sk-another-key-entirely")
    with pytest.raises(RunDirError, match=r"the API key \(SAIL_API_KEY\)"):
        here.cancel()
    assert here.fake.of("cancel") == []


def test_a_run_that_another_process_works_on_is_not_touched(here: Here) -> None:
    here.leave_open(2)
    here.run_dir.lock()
    with pytest.raises(RunDirError, match=f"another process .pid {os.getpid()}. is running this run"):
        here.cancel()
    assert here.fake.of("cancel") == []


def test_what_is_no_run_directory_is_an_error_and_stays_as_it_is(here: Here) -> None:
    with pytest.raises(RunDirError, match="runs/t: is not a run directory"):
        here.cancel()
    assert list(here.path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[1, 2]", "name: [", "name: t\nsubmit: {concurrency: no}\n"])
def test_a_config_that_cannot_be_read_is_an_error(here: Here, content: str) -> None:
    here.leave_open(2)
    here.run_dir.config.write_text(content)
    with pytest.raises(RunDirError, match=r"config\.yaml: is not the config of a run: "):
        here.cancel()


def test_a_summary_that_cannot_be_written_ends_it_with_3(here: Here) -> None:
    here.leave_open(2)
    here.run_dir.summary.unlink()
    here.run_dir.summary.mkdir()
    result = here.cancel()
    assert result.exit_code == 3
    assert "summary.json: cannot be written" in result.messages[0]
    assert result.output.startswith("2 cancelled")
