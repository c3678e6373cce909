"""Each worker gets its part of the limits, and each row goes to one worker."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import RunConfig
from runner.engine.leases import MOST_ROWS, Leases, share
from runner.records import Job
from runner.store import Recovery, Unacknowledged


def config_of(workers: int, **sections: object) -> RunConfig:
    return RunConfig.model_validate({"name": "t", "engine": {"workers": workers}, **sections})


@given(st.integers(1, 20), st.integers(20, 5000), st.integers(20, 50_000), st.integers(20, 300))
def test_the_shares_of_all_workers_add_up_and_none_is_empty(
    workers: int, posts: int, in_flight: int, gets: int
) -> None:
    config = config_of(
        workers,
        submit={"concurrency": posts, "max_in_flight": in_flight},
        poll={"concurrency": gets, "max_rate": 90.0},
    )
    shares = [share(config, worker) for worker in range(workers)]
    assert sum(it.submit.concurrency for it in shares) == posts
    assert sum(it.submit.max_in_flight for it in shares) == in_flight
    assert sum(it.poll.concurrency for it in shares) == gets
    assert sum(it.poll.max_rate or 0 for it in shares) == pytest.approx(90.0)
    assert min(it.poll.concurrency for it in shares) >= 1
    for it in shares:
        assert RunConfig.model_validate_json(it.model_dump_json()) == it


def test_limits_that_end_a_run_stay_with_the_coordinator() -> None:
    limits = {"max_s": 5, "max_cost_usd": 7, "max_failures": 3, "max_outage_s": 11, "drain_s": 2}
    part = share(config_of(2, limits=limits, prices={"output": 1}), 1)
    assert (part.limits.max_s, part.limits.max_cost_usd, part.limits.max_failures) == (None, None, None)
    assert (part.limits.max_outage_s, part.limits.drain_s) == (11, 2)


def recovery_of(rows: int, done: set[int], open_rows: set[int]) -> Recovery:
    recovery = Recovery(rows)
    for row in done:
        recovery.done.add(row)
    for row in open_rows - done:
        recovery.outstanding[row] = Job(row, f"row-{row}", f"job-{row}", "m", 0.0, 0.0, 0.0, 1)
    return recovery


@given(st.integers(0, 3000), st.integers(1, 5), st.data())
def test_each_row_that_needs_a_post_is_granted_once_and_in_rising_order(
    rows: int, workers: int, data: st.DataObject
) -> None:
    some = st.sets(st.integers(0, max(rows - 1, 0)), max_size=20)
    done, open_rows = data.draw(some), data.draw(some)
    leases = Leases(rows, recovery_of(rows, done, open_rows), workers)
    got: dict[int, list[int]] = {worker: [] for worker in range(workers)}
    while not leases.are_over:
        worker = data.draw(st.integers(0, workers - 1))
        got[worker] += leases.take(worker)
    everything = Counter(row for rows_of_one in got.values() for row in rows_of_one)
    assert everything == dict.fromkeys(set(range(rows)) - done - open_rows, 1)
    assert all(theirs == sorted(theirs) for theirs in got.values())
    assert all(row in leases.held_by(worker) for worker, theirs in got.items() for row in theirs)


def test_leases_shrink_towards_the_end() -> None:
    leases = Leases(10_000, Recovery(10_000), 4)
    sizes = []
    while rows := leases.take(0):
        sizes.append(len(rows))
    assert sizes[0] == MOST_ROWS
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-16:] == [1] * 16


def test_a_budget_may_ask_for_less_than_a_lease() -> None:
    leases = Leases(10_000, Recovery(10_000), 2)
    assert leases.take(0, 3) == [0, 1, 2]
    assert leases.take(1, 0) == []
    assert not leases.are_over
    assert leases.take(1, 2) == [3, 4]
    assert leases.granted == 5


def test_unfinished_rows_of_a_dead_worker_go_to_its_successor_first_and_to_nobody_else() -> None:
    leases = Leases(2000, Recovery(2000), 2)
    first, other = leases.take(0), leases.take(1)
    leases.release(0, first[100:], [5])
    assert not set(leases.take(1)) & set(first)
    assert leases.take(0) == first[100:]
    assert leases.take(0)[0] > other[-1]
    assert 5 in leases.held_by(0)
    assert first[50] not in leases.held_by(0)


def test_leases_are_not_over_while_a_dead_worker_left_rows() -> None:
    leases = Leases(4, Recovery(4), 1)
    while leases.take(0):
        pass
    assert leases.are_over
    leases.release(0, [2, 3], [])
    assert not leases.are_over
    assert leases.take(0) == [2, 3]
    assert leases.are_over


def test_rows_that_a_worker_has_no_slot_for_go_to_whoever_wants_some() -> None:
    leases = Leases(300, Recovery(300), 2)
    rows = []
    while more := leases.take(0):
        rows += more
    assert (leases.take(1), leases.granted, leases.are_over) == ([], 300, True)
    leases.give_back(0, rows[-50:])
    assert (leases.granted, leases.are_over) == (250, False)
    assert leases.take(1, 20) + leases.take(1) == rows[-50:]
    assert rows[-1] in leases.held_by(1)
    assert rows[-1] not in leases.held_by(0)
    assert (leases.granted, leases.are_over) == (300, True)


def test_rows_that_were_perhaps_sent_are_returned_once() -> None:
    recovery = Recovery(10)
    recovery.unacknowledged[3] = Unacknowledged("key", 1.0, 2.0)
    leases = Leases(10, recovery, 1)
    assert leases.unacknowledged([1, 2, 3]) == {3: Unacknowledged("key", 1.0, 2.0)}
    assert leases.unacknowledged([3]) == {}


def test_rows_of_a_dead_worker_do_not_count_against_the_budget_twice() -> None:
    leases = Leases(10_000, Recovery(10_000), 2)
    rows = leases.take(0)
    granted = leases.granted
    leases.release(0, rows, [])
    assert leases.take(0, 1) == rows
    assert leases.granted == granted
