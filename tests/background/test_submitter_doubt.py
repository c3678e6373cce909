"""Requests that may have been accepted: resent only where that is harmless, or the user says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runner.errors import KeyRefused
from runner.records import Failure
from runner.transport.fake import (
    LOST,
    Behaviour,
    Exchange,
    Fake,
    Script,
    rejected,
    throttled,
    transient,
    unauthorised,
)
from runner.transport.outcomes import Rejected, SubmitOutcome
from tests.background.sending import NO_KEYS, finished, for_row, posts_of
from tests.listed import row_of
from tests.session.support import Stage, run_session

OTHER_BYTES = Rejected(Failure("idempotency_error", "other bytes", 409), None, has_envelope=True)


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
@pytest.mark.parametrize("choice", ["hold", "resend"])
def test_a_lost_acknowledgement_is_resent_where_a_key_or_the_user_allows_it(
    tmp_path: Path, header: str | None, choice: str
) -> None:
    fake = Fake(Behaviour(honours_keys=header is not None), Script(submit={3: LOST, 9: LOST}))
    ended = run_session(
        tmp_path, fake, 20, target={"idempotency_header": header}, submit={"on_uncertain": choice}
    )
    if header:
        assert (ended.statuses, len(fake.jobs_made), len(fake.posts)) == ({"completed": 20}, 20, 22)
    elif choice == "resend":
        assert (ended.statuses, len(fake.jobs_made)) == ({"completed": 20}, 22), "the price of it"
    else:
        assert (ended.statuses, len(fake.posts)) == ({"completed": 18, "uncertain": 2}, 20)
    assert repr(ended.in_flight) == finished(20)


@pytest.mark.parametrize(
    ("header", "statuses"),
    [("Idempotency-Key", {"completed": 20}), (None, {"completed": 19, "uncertain": 1})],
)
def test_a_500_leaves_a_doubt_only_where_no_key_makes_resending_harmless(
    tmp_path: Path, header: str | None, statuses: dict[str, int]
) -> None:
    fake = Fake(script=Script(submit={5: transient("500")}))
    ended = run_session(tmp_path, fake, 20, target={"idempotency_header": header})
    assert ended.statuses == statuses


@pytest.mark.parametrize("cause", ["connect", "503", "429"])
def test_a_definite_refusal_leaves_no_doubt_even_without_keys(tmp_path: Path, cause: str) -> None:
    outcome = throttled(1.0) if cause == "429" else transient(cause)
    fake = Fake(Behaviour(honours_keys=False), Script(submit={5: outcome}))
    ended = run_session(tmp_path, fake, 20, target=NO_KEYS)
    assert (ended.statuses, len(fake.jobs_made)) == ({"completed": 20}, 20)


def test_a_request_in_doubt_is_not_resent_once_its_key_is_too_old(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(5.0)
        stage.suspend(fake, 24 * 3600.0)

    fake = Fake(Behaviour(takes_s=60.0), for_row(7, transient("502", ambiguous=True, wait_s=10.0), times=1))
    ended = run_session(tmp_path, fake, 20, act)
    assert ended.statuses == {"completed": 19, "uncertain": 1}
    assert len(posts_of(fake, 7)) == 1
    assert ended.results[7].error
    assert "sending it again could be paid for twice" in ended.results[7].error.message
    assert repr(ended.in_flight) == finished(20)


@pytest.mark.parametrize(
    ("answer", "header", "status"),
    [
        (rejected(), "Idempotency-Key", "rejected"),
        (rejected(), None, "uncertain"),
        (rejected("Not found.", 404), "Idempotency-Key", "uncertain"),
        (OTHER_BYTES, "Idempotency-Key", "uncertain"),
    ],
    ids=["protected by its key", "without a key", "forgotten", "key used with other bytes"],
)
def test_a_rejection_of_a_request_in_doubt_is_definite_only_if_the_first_post_was_surely_not_accepted(
    tmp_path: Path, answer: Rejected, header: str | None, status: str
) -> None:
    def answers(post: Exchange) -> SubmitOutcome | None:
        if row_of(post.body) != 7:
            return None
        return transient("timeout", ambiguous=True) if len(posts_of(fake, 7)) == 1 else answer

    fake = Fake(script=Script(submit=answers))
    ended = run_session(
        tmp_path, fake, 20, target={"idempotency_header": header}, submit={"on_uncertain": "resend"}
    )
    assert ended.results[7].status == status


@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_refused_key_ends_the_run_and_leaves_its_row_for_the_next(tmp_path: Path, in_doubt: bool) -> None:
    def answers(post: Exchange) -> SubmitOutcome | None:
        if row_of(post.body) != 7:
            return None
        return (
            transient("timeout", ambiguous=True)
            if in_doubt and len(posts_of(fake, 7)) == 1
            else unauthorised()
        )

    fake = Fake(script=Script(submit=answers))
    ended = run_session(tmp_path, fake, 20)
    assert isinstance(ended.outcome.ended_by, KeyRefused)
    assert 7 not in ended.results
    assert ended.in_flight.announced == int(in_doubt)
