"""The rate gate in virtual time: it neither hammers a throttled service nor starves it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.policy.admission import Effect, Exchange
from runner.policy.rate_gate import BURST_S, RateGate
from runner.policy.retry import LONGEST_RETRY_AFTER_S
from tests.policy.traffic import through_gate


def throttle(gate: RateGate, now: float, sent: float, wait_s: float | None) -> bool:
    """Record a throttled exchange, and return whether it began an episode."""
    episodes = gate.episodes
    assert not gate.ended(Exchange(sent, now, Effect.THROTTLED, wait_s))
    return gate.episodes > episodes


BUCKETS = [(5, 5), (20, 10), (50, 10), (50, 50), (200, 100), (500, 100)]


@pytest.mark.parametrize(("rate", "burst"), BUCKETS)
def test_two_hundred_workers_use_four_fifths_of_a_token_bucket(rate: float, burst: float) -> None:
    traffic = through_gate(RateGate(), rate=rate, burst=burst)

    assert traffic.per_s(0, 60) >= 0.8 * rate


@pytest.mark.parametrize(("rate", "burst"), BUCKETS)
def test_few_requests_are_refused_beyond_those_in_flight_at_first(rate: float, burst: float) -> None:
    traffic = through_gate(RateGate(), rate=rate, burst=burst)

    assert 0 < traffic.throttled <= 200 + 0.05 * len(traffic.accepted_at) + 60


@pytest.mark.parametrize(("rate", "burst"), BUCKETS)
@pytest.mark.parametrize("retry_after_s", [None, 0.3, 7.0])
def test_nothing_is_sent_before_the_longest_retry_after_is_over(
    rate: float, burst: float, retry_after_s: float | None
) -> None:
    traffic = through_gate(RateGate(), rate=rate, burst=burst, retry_after_s=retry_after_s)

    assert traffic.throttled
    assert traffic.too_early == 0


@pytest.mark.parametrize("rate", [5, 50])
def test_the_service_is_used_in_every_stretch_of_ten_seconds(rate: int) -> None:
    traffic = through_gate(RateGate(), rate=rate, burst=rate, seconds=120)

    assert all(traffic.per_s(since, since + 10) >= 0.4 * rate for since in range(0, 120, 10))


def test_a_service_that_refuses_everything_is_still_tried_now_and_then() -> None:
    traffic = through_gate(RateGate(), rate=1e-9, burst=0, retry_after_s=1.0, seconds=600)
    later = [at for at in traffic.started_at if at > 60]

    assert not traffic.accepted_at
    assert 30 <= len(later) <= 600


def test_the_rate_follows_a_service_that_loses_most_of_its_capacity_and_regains_it() -> None:
    def rate(now: float) -> float:
        return 10.0 if 60 <= now < 120 else 100.0

    traffic = through_gate(RateGate(), rate=rate, burst=50, seconds=300)

    assert traffic.throttled <= 200 + 0.1 * len(traffic.accepted_at)
    assert traffic.per_s(70, 120) >= 0.6 * 10
    assert traffic.per_s(240, 300) >= 0.6 * 100


@pytest.mark.parametrize("rate", [0.5, 3.0, 40.0, 333.0, 5000.0])
@pytest.mark.parametrize("late_s", [0.0001, 0.005, 0.03])
def test_max_rate_is_kept_and_used_within_one_percent_even_by_a_late_loop(rate: float, late_s: float) -> None:
    seconds = max(60.0, 200 / rate) if rate < 1000 else 10.0
    traffic = through_gate(
        RateGate(rate), rate=1e9, burst=1e9, seconds=seconds, workers=10**6, latency_s=0.01, late_s=late_s
    )

    started = len([at for at in traffic.started_at if at < seconds])
    assert started <= rate * seconds * 1.01 + 1
    assert started >= rate * seconds * 0.99 - 1


def test_a_stalled_loop_catches_up_on_a_tenth_of_a_second_at_most() -> None:
    gate = RateGate(100.0)
    starts: list[float] = []
    for now in [0.0, 0.5, 5.0, 5.01, 5.02, 6.0, 20.0]:  # a loop that stalls for seconds
        while gate.opens_at(now) <= now:
            gate.started(now)
            starts.append(now)

    assert max(starts.count(now) for now in starts) <= 100 * 0.1
    assert starts.count(20.0) >= 1


def test_the_lower_of_max_rate_and_the_learned_rate_holds() -> None:
    slow_client = through_gate(RateGate(10.0), rate=50, burst=50)
    slow_service = through_gate(RateGate(500.0), rate=50, burst=50)

    assert slow_client.throttled == 0
    assert slow_client.per_s(0, 60) == pytest.approx(10, rel=0.02)
    assert 0.8 * 50 <= slow_service.per_s(0, 60) <= 51


def test_a_gate_without_a_rate_lets_everything_start_at_once() -> None:
    gate = RateGate()
    for _ in range(1000):
        assert gate.opens_at(3.0) <= 3.0
        gate.started(3.0)


def test_refusals_of_exchanges_sent_before_the_gate_closed_belong_to_the_same_episode() -> None:
    gate = RateGate()
    for _ in range(200):
        gate.started(0.0)
    news = [throttle(gate, 0.1 + n / 1000, 0.0, 1.0) for n in range(200)]

    assert news == [True] + 199 * [False]
    assert gate.opens_at(0.3) == pytest.approx(1.299)

    assert gate.opens_at(2.0) <= 2.0
    gate.started(2.0)
    assert throttle(gate, 2.1, 2.0, 1.0)


def test_a_refusal_that_names_no_wait_closes_the_gate_for_a_while() -> None:
    gate = RateGate()
    gate.started(0.0)
    throttle(gate, 0.5, 0.0, None)

    assert gate.opens_at(0.5) > 0.5


def test_a_learned_rate_is_forgotten_after_a_minute_without_refusals() -> None:
    gate = RateGate()
    gate.started(0.0)
    throttle(gate, 0.1, 0.0, 1.0)
    assert gate.opens_at(2.0) <= 2.0
    gate.started(2.0)
    assert gate.opens_at(2.0) > 2.0

    assert gate.opens_at(1000.0) <= 1000.0
    gate.started(1000.0)
    assert gate.opens_at(1000.0) <= 1000.0


@pytest.mark.parametrize("effect", [Effect.FAILED, Effect.UNAUTHORISED])
def test_failures_leave_the_gate_alone(effect: Effect) -> None:
    gate = RateGate(10.0)
    gate.started(0.0)
    opens_at = gate.opens_at(0.0)

    assert not gate.ended(Exchange(0.0, 0.0, effect, 30.0))
    assert gate.opens_at(0.0) == opens_at
    assert gate.episodes == 0


def test_a_dropped_exchange_leaves_its_slot_used_up() -> None:
    gate = RateGate(10.0)
    gate.started(0.0)
    opens_at = gate.opens_at(0.0)
    gate.dropped()

    assert gate.opens_at(0.0) == opens_at


def test_a_few_refusals_among_many_acceptances_teach_no_rate() -> None:
    gate = RateGate()
    for _ in range(10):
        gate.started(0.0)
    for _ in range(9):
        gate.ended(Exchange(0.0, 0.1, Effect.ANSWERED, None))
    throttle(gate, 0.1, 0.0, 1.0)

    assert gate.opens_at(0.5) == pytest.approx(1.1)
    for _ in range(100):
        assert gate.opens_at(1.2) <= 1.2
        gate.started(1.2)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "throttle", "pass", Effect.ANSWERED, Effect.FAILED, Effect.UNAUTHORISED]),
        st.floats(0, 100),
        st.none() | st.floats(-5, 1e7),
    ),
    max_size=60,
)


@given(STEPS, st.none() | st.floats(0.01, 1e4))
@settings(max_examples=150)
def test_after_any_history_the_gate_opens_at_a_finite_time_and_not_before_the_wait_is_over(
    steps: list[tuple[str | Effect, float, float | None]], max_rate: float | None
) -> None:
    gate, now, sent, closed_until = RateGate(max_rate), 0.0, 0.0, -math.inf
    for what, seconds, wait_s in steps:
        if isinstance(what, Effect):
            gate.ended(Exchange(sent, now, what, wait_s))
        elif what == "pass":
            now += seconds
        elif what == "start":
            now = max(now, gate.opens_at(now))
            gate.started(now)
            sent = now
        else:
            throttle(gate, now, sent, wait_s)
            closed_until = max(closed_until, now + min(max(wait_s or 0.0, 0.0), LONGEST_RETRY_AFTER_S))
        assert closed_until <= gate.opens_at(now) <= now + LONGEST_RETRY_AFTER_S + 200
        assert "RateGate" in repr(gate)


@given(st.floats(0.1, 1e4), st.lists(st.floats(0, 20), min_size=1, max_size=60))
def test_no_second_holds_more_exchanges_than_max_rate_and_a_short_burst(
    max_rate: float, pauses_s: list[float]
) -> None:
    gate, now = RateGate(max_rate), 0.0
    starts: list[float] = []
    for pause_s in pauses_s:
        now += pause_s
        for _ in range(50):  # a worker that is always ready
            if gate.opens_at(now) > now:
                break
            gate.started(now)
            starts.append(now)

    allowed = max_rate * (1 + BURST_S) + 1 + 1e-6
    assert all(sum(at <= other < at + 1 for other in starts) <= allowed for at in starts)
