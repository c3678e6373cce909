"""The circuit in virtual time: closed while answers come, one probe at a time while none does."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.admission import Effect, Exchange
from runner.policy.circuit import FAILURES_TO_OPEN, Circuit


def end(circuit: Circuit, now: float, effect: Effect = Effect.FAILED) -> bool:
    return circuit.ended(Exchange(now, now, effect, None))


def fail(circuit: Circuit, now: float, times: int = 1) -> None:
    for _ in range(times):
        circuit.started(now)
        end(circuit, now)


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    circuit = Circuit(60.0)
    fail(circuit, 0.0, FAILURES_TO_OPEN - 1)
    assert circuit.opens_at(0.0) == -math.inf
    circuit.started(0.0)
    end(circuit, 0.0, Effect.ANSWERED)
    fail(circuit, 0.0, FAILURES_TO_OPEN - 1)
    assert not circuit.is_open
    fail(circuit, 0.0)
    assert circuit.is_open
    assert circuit.opens_at(0.0) > 0.0


def test_while_it_is_open_one_exchange_is_waited_for_before_the_next() -> None:
    circuit = Circuit(60.0)
    for _ in range(200):
        circuit.started(0.0)
    for _ in range(199):
        end(circuit, 1.0)
    assert circuit.opens_at(1.0) == math.inf
    end(circuit, 2.0)
    probe_at = circuit.opens_at(2.0)
    assert 2.0 < probe_at < 2.0 + 15.0 / 4, "a wave of failures at once is one piece of news"
    circuit.started(probe_at)
    assert circuit.opens_at(probe_at) == math.inf


def test_probes_are_ever_further_apart_up_to_a_longest_wait() -> None:
    circuit, now, waits = Circuit(60.0), 0.0, []
    fail(circuit, now, FAILURES_TO_OPEN)
    for _ in range(14):
        waits.append(circuit.opens_at(now) - now)
        now = circuit.opens_at(now)
        fail(circuit, now)
    assert waits == sorted(waits)
    assert waits[-1] == 15.0
    assert sum(wait < 15.0 for wait in waits) >= 4


@pytest.mark.parametrize("late", [False, True])
def test_the_first_answer_closes_it_and_says_so_once(late: bool) -> None:
    circuit = Circuit(60.0)
    if late:  # an answer to what was sent before it opened
        circuit.started(0.0)
    fail(circuit, 0.0, FAILURES_TO_OPEN)
    if not late:
        circuit.started(0.5)
    assert end(circuit, 1.0, Effect.ANSWERED)
    assert circuit.opens_at(1.0) == -math.inf
    circuit.started(1.0)
    assert not end(circuit, 1.0, Effect.ANSWERED)


@given(
    st.lists(st.tuples(st.sampled_from(["start", "answer", "fail", "drop"]), st.floats(0, 10)), max_size=80)
)
def test_whatever_happens_it_never_waits_for_ever_with_nothing_under_way(events: Any) -> None:
    circuit, now, under_way = Circuit(60.0), 0.0, 0
    for what, later in events:
        now += later
        if what == "start" and circuit.opens_at(now) <= now:
            circuit.started(now)
            under_way += 1
        elif what != "start" and under_way:
            under_way -= 1
            if what == "drop":
                circuit.dropped()
            else:
                end(circuit, now, Effect.ANSWERED if what == "answer" else Effect.FAILED)
        if not under_way:
            assert circuit.opens_at(now) <= now + 15.0


def test_a_minutes_outage_costs_some_twenty_exchanges() -> None:
    circuit, now, exchanges = Circuit(60.0), 0.0, 0
    while now < 60.0:
        fail(circuit, now)
        exchanges += 1
        now = max(now, circuit.opens_at(now))
    assert exchanges <= FAILURES_TO_OPEN + 12


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_service_that_fails_often_is_hardly_held_up(share: float) -> None:
    draws, circuit, now, waited_s = random.Random(1), Circuit(60.0), 0.0, 0.0
    for _ in range(100_000):
        waited_s += max(circuit.opens_at(now) - now, 0.0)
        now = max(circuit.opens_at(now), now)
        circuit.started(now)
        end(circuit, now, Effect.ANSWERED if draws.random() >= share else Effect.FAILED)
    assert waited_s < 100_000 * 0.001
