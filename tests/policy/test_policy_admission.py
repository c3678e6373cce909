"""Admission in virtual time: every rule is asked and informed, and none is passed over."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.admission import Admission, Effect, Exchange
from runner.policy.circuit import FAILURES_TO_OPEN, Circuit
from runner.policy.rate_gate import RateGate
from runner.policy.retry import LONGEST_RETRY_AFTER_S

MAX_OUTAGE_S = 60.0
EFFECTS = st.sampled_from(list(Effect))
TIMES = st.floats(allow_nan=False)


@dataclass
class FakeRule:
    """A rule with a given answer, which keeps what it was informed of."""

    opens: float = -math.inf
    lets_others_start: bool = False
    seen: list[object] = field(default_factory=list)

    def opens_at(self, now_mono: float) -> float:
        return self.opens

    def started(self, now_mono: float) -> None:
        self.seen.append(("started", now_mono))

    def dropped(self) -> None:
        self.seen.append("dropped")

    def ended(self, exchange: Exchange) -> bool:
        self.seen.append(exchange)
        return self.lets_others_start


def test_without_rules_every_exchange_may_start_at_once() -> None:
    admission = Admission()

    assert admission.opens_at(5.0) == -math.inf
    assert not admission.ended(Exchange(5.0, 6.0, Effect.THROTTLED, 10.0))


@given(st.lists(TIMES, min_size=1, max_size=5), TIMES)
def test_it_opens_when_the_last_of_its_rules_opens(opens: list[float], now: float) -> None:
    assert Admission(*map(FakeRule, opens)).opens_at(now) == max(opens)


@given(st.lists(st.booleans(), max_size=5), EFFECTS)
def test_every_rule_is_informed_and_one_is_enough_to_let_others_start(
    answers: list[bool], effect: Effect
) -> None:
    rules = [FakeRule(lets_others_start=answer) for answer in answers]
    admission, exchange = Admission(*rules), Exchange(1.0, 2.0, effect, None)

    admission.started(1.0)
    admission.dropped()

    assert admission.ended(exchange) == any(answers)
    assert all(rule.seen == [("started", 1.0), "dropped", exchange] for rule in rules)


def test_it_shows_its_rules() -> None:
    rules = RateGate(2.5), Circuit(MAX_OUTAGE_S)

    assert Admission(*rules).rules == rules
    assert repr(Admission(rules[0])) == "<Admission <RateGate open, 0 episodes, at most 2.5/s>>"
    assert repr(Admission(rules[1])) == "<Admission <Circuit closed, 0 failures in a row>>"


@given(
    st.lists(
        st.tuples(EFFECTS, st.none() | st.floats(0, 50), st.floats(0.001, 20), st.booleans()), max_size=120
    ),
    st.none() | st.floats(0.1, 1e3),
    st.integers(1, 40),
)
def test_workers_that_wait_for_it_never_starve_and_never_start_before_every_rule_allows(
    exchanges: list[tuple[Effect, float | None, float, bool]], max_rate: float | None, workers: int
) -> None:
    gate, circuit = RateGate(max_rate), Circuit(MAX_OUTAGE_S)
    admission, now, idle = Admission(gate, circuit), 0.0, workers
    in_flight: list[tuple[float, int, Exchange]] = []
    for number, (effect, wait_s, duration_s, is_dropped) in enumerate(exchanges):
        while not idle or (opens_at := admission.opens_at(now)) > now:
            if in_flight and (not idle or in_flight[0][0] <= opens_at):
                now, _, exchange = heapq.heappop(in_flight)
                admission.ended(exchange)
                idle += 1
            else:
                assert opens_at <= now + LONGEST_RETRY_AFTER_S + MAX_OUTAGE_S, "with nothing to wait for"
                now = opens_at
        assert gate.opens_at(now) <= now
        assert circuit.opens_at(now) <= now
        admission.started(now)
        if is_dropped:
            admission.dropped()
        else:
            idle -= 1
            ended = now + duration_s
            heapq.heappush(in_flight, (ended, number, Exchange(now, ended, effect, wait_s)))


@pytest.mark.parametrize("effect", [Effect.ANSWERED, Effect.THROTTLED, Effect.UNAUTHORISED])
def test_an_answer_that_closes_the_circuit_lets_waiting_workers_ask_again(effect: Effect) -> None:
    admission = Admission(RateGate(), Circuit(MAX_OUTAGE_S))
    for _ in range(FAILURES_TO_OPEN):
        admission.started(0.0)
        assert not admission.ended(Exchange(0.0, 0.0, Effect.FAILED, None))
    now = admission.opens_at(0.0)
    admission.started(now)
    assert admission.opens_at(now) == math.inf

    assert admission.ended(Exchange(now, now + 1.0, effect, None))
    assert admission.opens_at(now + 3.0) <= now + 3.0
