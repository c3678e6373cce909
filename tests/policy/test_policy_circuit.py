"""The circuit in virtual time: closed while answers come, one probe at a time while none does."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.admission import Effect, Exchange
from runner.policy.circuit import FAILURES_TO_OPEN, PROBES_PER_OUTAGE, Circuit

MAX_OUTAGE_S = 60.0
LONGEST_WAIT_S = MAX_OUTAGE_S / PROBES_PER_OUTAGE
ANSWERS = [Effect.ANSWERED, Effect.THROTTLED, Effect.UNAUTHORISED]


def end(circuit: Circuit, now: float, effect: Effect) -> bool:
    return circuit.ended(Exchange(now, now, effect, None))


def fail(circuit: Circuit, now: float, times: int = 1) -> None:
    for _ in range(times):
        circuit.started(now)
        assert not end(circuit, now, Effect.FAILED)


def test_it_opens_after_consecutive_failures_and_not_before() -> None:
    circuit = Circuit(MAX_OUTAGE_S)
    fail(circuit, 0.0, FAILURES_TO_OPEN - 1)
    assert circuit.opens_at(0.0) == -math.inf
    circuit.started(0.0)
    end(circuit, 0.0, Effect.ANSWERED)
    fail(circuit, 0.0, FAILURES_TO_OPEN - 1)
    assert not circuit.is_open
    fail(circuit, 0.0)
    assert circuit.is_open
    assert circuit.opens_at(0.0) > 0.0


def test_while_it_is_open_one_exchange_must_end_before_the_next_may_start() -> None:
    circuit = Circuit(MAX_OUTAGE_S)
    for _ in range(200):
        circuit.started(0.0)
    for _ in range(199):
        end(circuit, 1.0, Effect.FAILED)
    assert circuit.opens_at(1.0) == math.inf
    end(circuit, 2.0, Effect.FAILED)
    probe_at = circuit.opens_at(2.0)
    assert 2.0 < probe_at < 2.0 + LONGEST_WAIT_S / 4, "a wave of failures counts as one failed probe"
    circuit.started(probe_at)
    assert circuit.opens_at(probe_at) == math.inf


def test_pauses_between_probes_grow_up_to_a_longest_one() -> None:
    circuit, now, waits = Circuit(MAX_OUTAGE_S), 0.0, []
    fail(circuit, now, FAILURES_TO_OPEN)
    for _ in range(14):
        waits.append(circuit.opens_at(now) - now)
        now = circuit.opens_at(now)
        fail(circuit, now)
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_S
    assert sum(wait < LONGEST_WAIT_S for wait in waits) >= 4


@pytest.mark.parametrize("effect", ANSWERS)
@pytest.mark.parametrize("late", [False, True])
def test_the_first_answer_closes_it_and_is_reported_once(late: bool, effect: Effect) -> None:
    circuit = Circuit(MAX_OUTAGE_S)
    if late:  # an answer to an exchange that was sent before it opened
        circuit.started(0.0)
    fail(circuit, 0.0, FAILURES_TO_OPEN)
    if not late:
        circuit.started(0.5)
    assert end(circuit, 1.0, effect)
    assert circuit.opens_at(1.0) == -math.inf
    circuit.started(1.0)
    assert not end(circuit, 1.0, effect)


def test_a_dropped_probe_lets_the_next_one_start() -> None:
    circuit = Circuit(MAX_OUTAGE_S)
    fail(circuit, 0.0, FAILURES_TO_OPEN)
    probe_at = circuit.opens_at(0.0)
    circuit.started(probe_at)
    circuit.dropped()

    assert circuit.opens_at(probe_at) == probe_at


def test_it_shows_its_state() -> None:
    circuit = Circuit(MAX_OUTAGE_S)
    fail(circuit, 0.0, FAILURES_TO_OPEN)

    assert repr(circuit) == "<Circuit open, 10 failures in a row>"


@given(
    st.lists(st.tuples(st.sampled_from(["start", "drop", *Effect]), st.floats(0, 10)), max_size=80),
)
def test_after_any_history_with_nothing_in_flight_it_opens_within_the_longest_pause(
    events: list[tuple[str | Effect, float]],
) -> None:
    circuit, now, in_flight = Circuit(MAX_OUTAGE_S), 0.0, 0
    for what, later in events:
        now += later
        if what == "start":
            if circuit.opens_at(now) <= now:
                assert not (circuit.is_open and in_flight), "two probes at once"
                circuit.started(now)
                in_flight += 1
        elif in_flight:
            in_flight -= 1
            if isinstance(what, Effect):
                end(circuit, now, what)
            else:
                circuit.dropped()
        if not in_flight:
            assert circuit.opens_at(now) <= now + LONGEST_WAIT_S


def test_an_outage_of_one_minute_costs_about_twenty_exchanges() -> None:
    circuit, now, exchanges = Circuit(MAX_OUTAGE_S), 0.0, 0
    while now < MAX_OUTAGE_S:
        fail(circuit, now)
        exchanges += 1
        now = max(now, circuit.opens_at(now))
    assert exchanges <= FAILURES_TO_OPEN + 12


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_service_that_fails_often_is_hardly_delayed(share: float) -> None:
    draws, circuit, now, waited_s = random.Random(1), Circuit(MAX_OUTAGE_S), 0.0, 0.0
    for _ in range(100_000):
        waited_s += max(circuit.opens_at(now) - now, 0.0)
        now = max(circuit.opens_at(now), now)
        circuit.started(now)
        end(circuit, now, Effect.ANSWERED if draws.random() >= share else Effect.FAILED)
    assert waited_s < 100_000 * 0.001
