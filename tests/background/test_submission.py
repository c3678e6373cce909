"""A request on its way to being accepted, and what is written down of it."""

from __future__ import annotations

import msgspec
import pytest

from runner.background.submission import Submission, acceptance_of
from runner.records import Failure, Reply, Request, Timing
from runner.store import Acceptance, Intent, Retraction
from tests.session.building import job_of

REQUEST = Request(7, "row-7", b"{}", "m")


def submission_of(sent: float | None = None) -> Submission:
    return Submission(REQUEST, "key", 10.0, epoch=2, sent=sent, attempts=3)


@pytest.mark.parametrize(("sent", "at"), [(None, 10.0), (12.0, 12.0)])
def test_an_intent_bears_the_time_of_the_first_post_or_when_it_was_due(sent: float | None, at: float) -> None:
    assert submission_of(sent).intent() == Intent(
        row=7, custom_id="row-7", key="key", due=10.0, at=at, epoch=2
    )


def test_a_retraction_names_the_cause_and_the_epoch() -> None:
    assert submission_of().retraction("429", 20.0) == Retraction(7, "429", 20.0, 2)


@pytest.mark.parametrize(("sent", "first"), [(None, 15.0), (12.0, 12.0)])
def test_a_job_keeps_the_times_of_its_request(sent: float | None, first: float) -> None:
    job = submission_of(sent).job("job-1", 15.0)
    assert (job.row, job.custom_id, job.id, job.kind, job.attempts, job.epoch) == (
        7, "row-7", "job-1", "m", 3, 2,
    )  # fmt: skip
    assert (job.due, job.sent, job.accepted) == (10.0, first, 15.0)
    assert not job.inherited


def test_a_result_without_an_acceptance_has_no_time_of_one() -> None:
    failure, reply = Failure("bad", "bad"), Reply(400, None, msgspec.Raw(b"{}"))
    result = submission_of(12.0).result("rejected", failure, reply, 20.0)
    assert result.timing == Timing(due=10.0, sent=12.0, accepted=None, pending=None, done=20.0)
    assert (result.status, result.error, result.response) == ("rejected", failure, reply)
    assert (result.attempts, result.polls, result.epoch) == (3, 0, 2)


def test_the_acceptance_of_a_job_says_how_many_attempts_it_took() -> None:
    assert acceptance_of(job_of(3, accepted=9.0)) == Acceptance(
        row=3, job="job-3", kind="m", attempts=1, at=9.0, epoch=0
    )
