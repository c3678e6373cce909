"""What all outcomes together say of a service: not there, not a Responses API, away for too long, or fine."""

from __future__ import annotations

import msgspec
import pytest

from runner.errors import EndpointUnreachable, KeyRefused, NothingAccepted, OutOfFiles, StoppedEarly
from runner.session.health import MOST_REJECTIONS, ServiceHealth
from runner.transport.fake import done, gone, rejected, throttled, transient, unauthorised
from runner.transport.outcomes import PENDING, Accepted, AnyOutcome, Rejected, Transient
from tests.session.building import health_of
from tests.session.support import BASE_URL, config_of

PAGE_404 = msgspec.structs.replace(rejected("404 page not found", 404), has_envelope=False)
PROXY_502 = msgspec.structs.replace(transient("502"), is_spoken=False)


def confirmed_health(max_outage_s: float = 60.0) -> ServiceHealth:
    health, _, _ = health_of(config_of(limits={"max_outage_s": max_outage_s}))
    health.confirm()
    return health


def failed(
    health: ServiceHealth, *times_mono: float, outcome: AnyOutcome | None = None
) -> StoppedEarly | None:
    """Record a failure at each of these times, and return what the last one leads to."""
    end_of_run = None
    for at_mono in times_mono:
        end_of_run = health.record(outcome or transient("connect"), at_mono)
    return end_of_run


@pytest.mark.parametrize(
    "outcome", [Accepted("job-1"), PENDING, done("job-1"), gone(), throttled(), transient("500")]
)
def test_what_only_such_a_service_says_confirms_it_once(outcome: AnyOutcome) -> None:
    health, _, confirmed = health_of()
    assert health.record(outcome, 0.0) is None
    assert (health.is_confirmed, confirmed.count) == (True, 1)
    health.record(outcome, 1.0)
    assert confirmed.count == 1
    assert repr(health).startswith("<ServiceHealth confirmed")


@pytest.mark.parametrize("outcome", [transient("connect"), transient("not_json"), PROXY_502, rejected()])
def test_what_anybody_may_say_confirms_nothing(outcome: AnyOutcome) -> None:
    health, _, confirmed = health_of()
    assert health.record(outcome, 0.0) is None
    assert (health.is_confirmed, confirmed.count) == (False, 0)
    assert repr(health).startswith("<ServiceHealth unconfirmed")


@pytest.mark.parametrize("cause", ["connect", "timeout", "not_http", "not_json", "redirect"])
def test_an_address_that_never_answered_is_given_up_after_two_failures_and_three_seconds(cause: str) -> None:
    health, _, _ = health_of()
    outcome = transient(cause)
    assert failed(health, 0.0, 1.0, 2.9, outcome=outcome) is None
    error = failed(health, 3.0, outcome=outcome)
    assert isinstance(error, EndpointUnreachable)
    assert str(error) == (
        f"{BASE_URL}: no Responses API answers there: no answer ({cause})"
        " (check target.base_url and the network, then run the same command again)"
    )


def test_one_failure_alone_ends_no_run_however_late_it_comes() -> None:
    health, _, _ = health_of()
    assert failed(health, 100.0) is None
    assert isinstance(failed(health, 103.0), EndpointUnreachable)


def test_the_first_patience_is_what_the_caller_says_and_never_above_the_longest_outage() -> None:
    for first_patience_s, max_outage_s, ends_after_s in ((10.0, 60.0, 10.0), (10.0, 2.0, 2.0)):
        config = config_of(limits={"max_outage_s": max_outage_s})
        health, _, _ = health_of(config, first_patience_s=first_patience_s)
        assert failed(health, 0.0, ends_after_s - 0.1) is None
        assert isinstance(failed(health, ends_after_s), EndpointUnreachable)


def test_a_server_error_of_a_proxy_is_waited_out_as_an_outage() -> None:
    health, _, _ = health_of()
    assert failed(health, 0.0, 10.0, 20.0, 30.0, 59.9, outcome=PROXY_502) is None
    assert isinstance(failed(health, 60.0, outcome=PROXY_502), EndpointUnreachable)
    assert not health.is_confirmed


@pytest.mark.parametrize("outcome", [PAGE_404, transient("404"), transient("405")])
def test_an_address_without_such_a_path_ends_the_run_at_once(outcome: AnyOutcome) -> None:
    health, _, _ = health_of()
    assert isinstance(health.record(outcome, 0.0), EndpointUnreachable)
    assert not health.allows_another


@pytest.mark.parametrize("outcome", [PAGE_404, transient("404")])
def test_a_missing_path_is_nothing_of_that_kind_once_the_service_is_confirmed(outcome: AnyOutcome) -> None:
    assert confirmed_health().record(outcome, 0.0) is None


def test_ten_rejections_before_any_acceptance_end_the_run() -> None:
    health, said, _ = health_of()
    for count in range(1, MOST_REJECTIONS):
        assert health.record(rejected("no such model"), float(count)) is None
        assert health.allows_another
    error = health.record(rejected("no such model"), 10.0)
    assert isinstance(error, NothingAccepted)
    assert "the first 10 requests were all rejected: no such model" in str(error)
    assert not health.allows_another
    assert said == ["the first request was rejected: no such model"]
    assert repr(health) == "<ServiceHealth unconfirmed, 10 rejections>"


def test_rejections_after_an_acceptance_concern_their_rows_alone() -> None:
    health = confirmed_health()
    for count in range(20):
        assert health.record(rejected(), float(count)) is None
    assert health.allows_another


@pytest.mark.parametrize("outcome", [transient("connect"), transient("503"), throttled()])
def test_an_outage_ends_the_run_after_its_time(outcome: AnyOutcome) -> None:
    health = confirmed_health()
    assert failed(health, 100.0, 115.0, 130.0, 145.0, 159.9, outcome=outcome) is None
    error = failed(health, 160.0, outcome=outcome)
    assert isinstance(error, EndpointUnreachable)
    assert "nothing but failures for 60 s (limits.max_outage_s): " in str(error)
    assert "when the service is back, run the same command again" in str(error)


def test_an_outage_has_five_failures_at_least_however_long_they_took() -> None:
    health = confirmed_health()
    assert failed(health, 0.0, 1000.0, 2000.0, 3000.0) is None
    assert isinstance(failed(health, 4000.0), EndpointUnreachable)


@pytest.mark.parametrize("answer", [Accepted("job-1"), PENDING, done("job-1"), gone(), rejected()])
def test_any_answer_in_between_ends_the_outage(answer: AnyOutcome) -> None:
    health = confirmed_health()
    failed(health, 0.0, 10.0, 20.0, 30.0)
    assert repr(health) == "<ServiceHealth confirmed, failing>"
    assert health.record(answer, 40.0) is None
    assert repr(health) == "<ServiceHealth confirmed>"
    assert failed(health, 50.0, 60.0, 70.0, 80.0, 109.9) is None
    assert isinstance(failed(health, 110.0), EndpointUnreachable)


@pytest.mark.parametrize(("asked_s", "honoured_s"), [(300.0, 300.0), (1e9, 3600.0)])
def test_a_wait_that_the_service_asked_for_comes_on_top(asked_s: float, honoured_s: float) -> None:
    health = confirmed_health()
    failed(health, 0.0, 1.0, 2.0, outcome=throttled(10.0))
    failed(health, 3.0, outcome=throttled(asked_s))
    assert failed(health, 60.0 + honoured_s - 0.1) is None
    assert isinstance(failed(health, 60.0 + honoured_s), EndpointUnreachable)


def test_an_answer_that_another_process_received_counts_if_it_came_after_the_first_failure() -> None:
    for answered_at_mono, is_over in ((99.0, True), (120.0, False)):
        health = confirmed_health()
        failed(health, 100.0, 101.0, 102.0, 103.0, 130.0)
        health.record_answer(answered_at_mono)
        assert isinstance(failed(health, 160.0), EndpointUnreachable) is is_over


def test_it_knows_when_the_last_answer_came() -> None:
    health = confirmed_health()
    assert not health.answered_since(0.0)
    health.record(PENDING, 50.0)
    health.record_answer(40.0)  # of another process, and older
    health.record(transient("connect"), 60.0)
    assert (health.answered_since(49.9), health.answered_since(50.0)) == (True, False)


def test_it_keeps_the_last_failure_for_a_message() -> None:
    health = confirmed_health()
    assert health.last_failure is None
    health.record(transient("503"), 1.0)
    health.record(transient("connect"), 2.0)
    assert health.last_failure
    assert health.last_failure.type == "connect"


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_ends_the_run_and_the_message_names_its_variable(status: int) -> None:
    health, _, _ = health_of(config_of(target={"api_key_env": "MY_KEY"}))
    error = health.record(unauthorised(status), 0.0)
    assert isinstance(error, KeyRefused)
    assert str(error) == (
        f"HTTP {status}: the service refuses the API key or its account: Incorrect API key."
        " (check the key in MY_KEY, then run the same command again)"
    )


def test_too_many_open_files_end_the_run_and_the_message_says_what_to_do() -> None:
    outcome: Transient = transient("no_files")
    error = confirmed_health().record(outcome, 0.0)
    assert isinstance(error, OutOfFiles)
    assert "open files" in str(error)
    assert "raise `ulimit -n`, or lower submit.concurrency and poll.concurrency" in str(error)


def test_a_rejection_in_the_error_format_is_one_row_of_ten_even_with_status_404() -> None:
    health, _, _ = health_of()
    outcome: Rejected = rejected("The model `x` does not exist.", 404)
    assert health.record(outcome, 0.0) is None
    assert health.allows_another
