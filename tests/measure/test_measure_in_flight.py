"""Where the rows of a run stand: every transition, from every state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.measure.in_flight import InFlight, Miscount

FIELDS = ("total", "taken", "announced", "sending", "outstanding", "finished")

Change = dict[str, int]

# Each transition with `rows`, and what it changes; a count may not fall below zero.
TRANSITIONS: dict[str, tuple[Callable[[InFlight, int], None], Callable[[int], Change]]] = {
    "grant": (InFlight.grant, lambda n: {"total": n}),
    "revoke": (InFlight.revoke, lambda n: {"total": -n}),
    "take": (InFlight.take, lambda n: {"taken": n}),
    "release": (InFlight.release, lambda n: {"taken": -n}),
    "announce": (InFlight.announce, lambda n: {"announced": n}),
    "retract": (InFlight.retract, lambda n: {"announced": -n}),
    "post_started": (lambda it, _: it.post_started(), lambda _: {"sending": 1}),
    "post_ended": (lambda it, _: it.post_ended(), lambda _: {"sending": -1}),
    "accept": (InFlight.accept, lambda n: {"taken": -n, "announced": -n, "outstanding": n}),
    "inherit": (InFlight.inherit, lambda n: {"outstanding": n}),
    "forget": (InFlight.forget, lambda n: {"outstanding": -n}),
    "finish": (InFlight.finish, lambda n: {"outstanding": -n, "finished": n}),
    "refuse": (InFlight.refuse, lambda n: {"taken": -n, "finished": n}),
    "refuse announced": (
        lambda it, n: it.refuse(n, announced=n),
        lambda n: {"taken": -n, "announced": -n, "finished": n},
    ),
}

STATES = st.builds(InFlight, *(st.integers(0, 4) for _ in FIELDS))


def counts_of(in_flight: InFlight) -> Change:
    return {field: getattr(in_flight, field) for field in FIELDS}


@given(STATES, st.sampled_from(sorted(TRANSITIONS)), st.integers(0, 5))
def test_a_transition_makes_its_changes_or_is_a_miscount_that_changes_nothing(
    in_flight: InFlight, name: str, rows: int
) -> None:
    apply, changes = TRANSITIONS[name]
    before = counts_of(in_flight)
    after = before | {field: before[field] + by for field, by in changes(rows).items()}

    if min(after.values()) < 0:
        with pytest.raises(Miscount):
            apply(in_flight, rows)
        assert counts_of(in_flight) == before
    else:
        apply(in_flight, rows)
        assert counts_of(in_flight) == after


@given(st.lists(st.tuples(st.sampled_from(sorted(TRANSITIONS)), st.integers(1, 3)), max_size=50))
def test_no_history_of_transitions_makes_a_count_negative(steps: list[tuple[str, int]]) -> None:
    in_flight = InFlight(total=5)
    for name, rows in steps:
        try:
            TRANSITIONS[name][0](in_flight, rows)
        except Miscount:
            continue
        assert min(counts_of(in_flight).values()) >= 0


@given(STATES)
def test_what_is_derived_follows_from_the_counts(in_flight: InFlight) -> None:
    it = in_flight

    assert it.slots_used == it.taken + it.outstanding
    assert it.submitted == it.finished + it.outstanding
    assert it.unsent == max(it.total - it.submitted, 0)
    assert it.is_complete == (it.finished >= it.total)
    assert it.is_idle == (it.outstanding == 0 and it.sending == 0)


@given(STATES, st.integers(0, 3), st.integers(0, 4))
def test_refused_rows_of_which_more_are_announced_than_refused_are_a_miscount(
    in_flight: InFlight, rows: int, announced: int
) -> None:
    before = counts_of(in_flight)
    if rows > before["taken"] or announced > before["announced"] or announced > rows:
        with pytest.raises(Miscount):
            in_flight.refuse(rows, announced=announced)
        assert counts_of(in_flight) == before
    else:
        in_flight.refuse(rows, announced=announced)
        assert in_flight.announced == before["announced"] - announced


def test_a_row_that_comes_through_leaves_nothing_but_its_result() -> None:
    in_flight = InFlight(total=1)
    in_flight.take()
    in_flight.announce()
    in_flight.post_started()
    in_flight.post_ended()
    in_flight.accept()
    assert not in_flight.is_idle
    in_flight.finish()

    assert in_flight == InFlight(total=1, finished=1)
    assert in_flight.is_complete
    assert in_flight.is_idle


def test_all_counts_show_in_the_repr_and_in_a_miscount() -> None:
    in_flight = InFlight(total=9, taken=1, announced=2, sending=3, outstanding=4, finished=5)
    text = "<InFlight 1 taken, 2 announced, 3 sending, 4 outstanding, 5 of 9 finished>"

    assert repr(in_flight) == text
    with pytest.raises(Miscount, match=text):
        in_flight.forget(5)
