"""A batch before it is accepted: ranges of rows, names, and what the journal says of it."""

from __future__ import annotations

from array import array
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runner.batch.submission import BatchSubmission, Names, ranges_of
from runner.store import BatchAcceptance, BatchRetraction


def submission(rows: set[int], sent: float | None = None) -> BatchSubmission:
    """Return a batch with these rows, due at 2.0."""
    return BatchSubmission(
        number=3,
        label="l-3",
        key="key",
        kind="m",
        names=Names({f"row-{row}": row for row in sorted(rows)}),
        ranges=list(ranges_of(array("I", sorted(rows)))),
        size_bytes=99,
        body=Path("body"),
        due=2.0,
        sent=sent,
    )


@given(st.sets(st.integers(0, 40) | st.integers(0, 2**32 - 1), max_size=30))
def test_ranges_contain_exactly_the_rows_that_they_stand_for(rows: set[int]) -> None:
    ranges = list(ranges_of(array("I", sorted(rows))))
    assert [row for part in ranges for row in part] == sorted(rows)
    assert all(one.stop < other.start for one, other in pairwise(ranges))
    assert all(ranges)


@given(st.sets(st.integers(0, 60), min_size=1, max_size=30), st.none() | st.floats(1, 9))
def test_an_intent_has_the_rows_the_key_and_the_time_of_the_first_post(
    rows: set[int], sent: float | None
) -> None:
    batch = submission(rows, sent)
    intent = batch.intent()
    assert [row for part in intent.ranges for row in part] == sorted(rows)
    assert intent.count == batch.count == len(rows)
    assert batch.first_row == min(rows)
    assert (intent.batch, intent.label, intent.key, intent.size_bytes) == (3, "l-3", "key", 99)
    assert intent.at == (sent or 2.0)


def test_an_acceptance_and_a_retraction_name_the_batch_by_its_number() -> None:
    batch = submission({1, 2})
    batch.attempts = 4
    assert batch.acceptance("batch_x", 7.0) == BatchAcceptance(batch=3, id="batch_x", attempts=4, at=7.0)
    assert batch.retraction("429", 8.0) == BatchRetraction(batch=3, cause="429", at=8.0)


def test_settled_rows_are_in_the_body_of_a_batch_and_do_not_belong_to_it() -> None:
    batch = submission({1, 2, 5})
    assert (batch.count, batch.own_count, batch.own_names) == (3, 3, batch.names)
    batch.settled = frozenset({2})
    assert (batch.count, batch.own_count) == (3, 2)
    assert batch.own_names.rows == {"row-1": 1, "row-5": 5}
    assert batch.names.rows == {"row-1": 1, "row-2": 2, "row-5": 5}


def test_names_keep_the_own_ids_of_rows_whatever_they_are_called_at_the_service() -> None:
    names = Names()
    names.add("zo-1f", "Zoë", 4)
    names.add("row-5", "row-5", 5)
    assert names.rows == {"zo-1f": 4, "row-5": 5}
    assert (names.custom_id("zo-1f"), names.custom_id("row-5")) == ("Zoë", "row-5")
    rest = names.without({5})
    assert rest.rows == {"zo-1f": 4}
    assert rest.custom_id("zo-1f") == "Zoë"
    assert Names().rows == {}, "no two batches share their names"
