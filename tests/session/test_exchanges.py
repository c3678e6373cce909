"""One sort of exchange: what each outcome means for all others of its sort."""

from __future__ import annotations

import math

import pytest

from runner.errors import KeyRefused
from runner.policy.admission import Effect
from runner.policy.admission import Exchange as Ended
from runner.policy.circuit import FAILURES_TO_OPEN, Circuit
from runner.session.exchanges import Exchanges
from runner.session.health import ServiceHealth
from runner.transport.fake import done, gone, rejected, throttled, transient, unauthorised, unsupported
from runner.transport.outcomes import PENDING, Accepted, AnyOutcome, Created
from tests.session.building import Calls, exchanges_of, health_of
from tests.session.support import BASE_URL, config_of


class Recorder:
    """A rule that holds nothing back and keeps what has ended."""

    def __init__(self) -> None:
        self.ended_exchanges: list[Ended] = []

    def opens_at(self, now_mono: float) -> float:
        return -math.inf

    def started(self, now_mono: float) -> None:
        """Do nothing."""

    def dropped(self) -> None:
        """Do nothing."""

    def ended(self, exchange: Ended) -> bool:
        self.ended_exchanges.append(exchange)
        return False


@pytest.mark.parametrize(
    ("outcome", "effect"),
    [
        (Accepted("job-1"), Effect.ANSWERED),
        (PENDING, Effect.ANSWERED),
        (done("job-1"), Effect.ANSWERED),
        (rejected(), Effect.ANSWERED),
        (gone(), Effect.ANSWERED),
        (Created("batch-1", 3), Effect.ANSWERED),
        (unsupported(), Effect.ANSWERED),
        (throttled(5.0), Effect.THROTTLED),
        (transient("500"), Effect.FAILED),
        (transient("connect"), Effect.FAILED),
        (unauthorised(), Effect.UNAUTHORISED),
    ],
)
def test_an_outcome_shows_something_of_the_service_whatever_it_was_about(
    outcome: AnyOutcome, effect: Effect
) -> None:
    rule = Recorder()
    health, _, _ = health_of()
    exchanges, _ = exchanges_of(health, rule, on_reopened=Calls())
    exchanges.started(1.0)
    exchanges.settle(outcome, 1.0, 3.0)
    wait_s = 5.0 if effect is Effect.THROTTLED else None
    assert rule.ended_exchanges == [Ended(1.0, 3.0, effect, wait_s)]


def made() -> tuple[Exchanges, ServiceHealth, Calls, list[str]]:
    """Return one sort of exchange of a confirmed service, its health, its reopenings and what it said."""
    health, _, _ = health_of()
    health.confirm()
    reopened = Calls()
    exchanges, said = exchanges_of(health, on_reopened=reopened)
    return exchanges, health, reopened, said


def settled(exchanges: Exchanges, outcome: AnyOutcome, at_mono: float) -> None:
    """Let one exchange start and end at that time."""
    exchanges.started(at_mono)
    exchanges.settle(outcome, at_mono, at_mono)


def test_one_throttled_exchange_closes_the_gate_for_all() -> None:
    exchanges, _, reopened, _ = made()
    assert exchanges.opens_at(10.0) <= 10.0
    settled(exchanges, throttled(5.0), 10.0)
    assert exchanges.opens_at(10.0) == 15.0
    assert reopened.count == 0


def test_ten_failures_open_the_circuit_and_the_first_answer_closes_it_and_says_so() -> None:
    exchanges, _, reopened, _ = made()
    for _ in range(FAILURES_TO_OPEN):
        assert exchanges.opens_at(1.0) <= 1.0
        settled(exchanges, transient("503"), 1.0)
    assert exchanges.opens_at(1.0) == pytest.approx(1.1)
    exchanges.started(2.0)
    assert exchanges.opens_at(2.0) == math.inf
    assert reopened.count == 0
    exchanges.settle(PENDING, 2.0, 2.0)
    assert reopened.count == 1
    assert exchanges.opens_at(2.0) <= 2.0
    settled(exchanges, PENDING, 3.0)
    assert reopened.count == 1


def test_an_exchange_that_was_not_needed_makes_room_for_the_next_probe() -> None:
    exchanges, _, _, _ = made()
    for _ in range(FAILURES_TO_OPEN):
        settled(exchanges, transient("503"), 1.0)
    exchanges.started(2.0)
    exchanges.dropped()
    assert exchanges.opens_at(2.0) <= 2.0


def test_whoever_is_woken_because_the_service_is_confirmed_finds_the_gate_closed() -> None:
    opens_at_mono: list[float] = []
    health = ServiceHealth(
        config_of(),
        BASE_URL,
        3.0,
        say=lambda _: None,
        on_confirmed=lambda: opens_at_mono.append(exchanges.opens_at(1.0)),
    )
    exchanges, _ = exchanges_of(health, on_reopened=Calls())
    settled(exchanges, throttled(30.0), 1.0)
    assert opens_at_mono == [31.0]


def test_whoever_is_woken_because_the_circuit_is_closed_finds_the_service_answering() -> None:
    health, _, _ = health_of()
    states: list[str] = []
    exchanges, _ = exchanges_of(health, Circuit(60.0), on_reopened=lambda: states.append(repr(health)))
    for _ in range(FAILURES_TO_OPEN):
        settled(exchanges, transient("503"), 1.0)
    settled(exchanges, PENDING, 2.0)
    assert states == ["<ServiceHealth confirmed>"]


def test_what_ends_the_run_is_returned_and_not_raised() -> None:
    exchanges, _, _, _ = made()
    exchanges.started(1.0)
    assert isinstance(exchanges.settle(unauthorised(), 1.0, 1.0), KeyRefused)


def test_a_long_wait_is_reported_once_until_it_is_over() -> None:
    exchanges, _, _, said = made()
    for at_mono, wait_s in ((0.0, 9.0), (1.0, 30.0), (2.0, 30.0), (30.0, 60.0), (31.0, 60.0), (40.0, None)):
        settled(exchanges, throttled(wait_s), at_mono)
    assert said == [f"waiting {wait_s} s, as the service asks: Too many requests." for wait_s in (30, 60)]


def test_an_answer_about_something_else_ends_an_outage_and_confirms_nothing() -> None:
    health, _, confirmed = health_of()
    reopened = Calls()
    exchanges, _ = exchanges_of(health, on_reopened=reopened)
    for _ in range(FAILURES_TO_OPEN):
        settled(exchanges, transient("connect"), 1.0)
    exchanges.started(2.0)
    exchanges.answered(2.0, 3.0)
    assert health.answered_since(2.5)
    assert (confirmed.count, reopened.count) == (0, 1)


def test_it_shows_its_rules() -> None:
    exchanges, _, _, _ = made()
    assert repr(exchanges) == (
        "<Exchanges <Admission <RateGate open, 0 episodes>, <Circuit closed, 0 failures in a row>>>"
    )
