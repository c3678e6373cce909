"""An accepted batch: what it takes over from its submission, and the requests to learn from."""

from __future__ import annotations

from array import array
from itertools import pairwise
from pathlib import Path

import pytest

from runner.batch.open_batch import MOST_SAMPLED, OpenBatch
from runner.batch.submission import BatchSubmission, Names, ranges_of


def submission(count: int) -> BatchSubmission:
    names = Names({f"row-{row}": row for row in range(count)})
    ranges = list(ranges_of(array("I", range(count))))
    batch = BatchSubmission(4, "l-4", "key", "kind", names, ranges, 9, Path("body"), due=1.0)
    batch.sent, batch.attempts = 2.0, 3
    return batch


def test_an_open_batch_has_the_rows_and_times_of_its_submission() -> None:
    batch = OpenBatch.of(submission(5), "batch_x", 7.0)
    assert (batch.id, batch.number, batch.row, batch.kind) == ("batch_x", 4, 4, "kind")
    assert (batch.due, batch.sent, batch.accepted, batch.attempts) == (1.0, 2.0, 7.0, 3)
    assert batch.names.rows == {f"row-{row}": row for row in range(5)}
    assert (batch.without_result, batch.inherited) == (5, False)


def test_an_open_batch_has_only_the_rows_that_belong_to_it() -> None:
    mixed = submission(5)
    mixed.settled = frozenset({0, 2})
    batch = OpenBatch.of(mixed, "batch_x", 7.0)
    assert list(batch.names.rows.values()) == [1, 3, 4]
    assert batch.without_result == 3


@pytest.mark.parametrize("count", [1, MOST_SAMPLED - 1, MOST_SAMPLED, MOST_SAMPLED + 1, 1000])
def test_requests_to_learn_from_are_few_and_spread_evenly(count: int) -> None:
    batch = OpenBatch.of(submission(count), "batch_x", 7.0)
    batch.order = 8
    assert batch.sampled == []
    batch.sample()
    rows = [batch.names.rows[one.wire_id] for one in batch.sampled]
    assert min(count, MOST_SAMPLED) / 2 <= len(rows) <= MOST_SAMPLED
    assert rows[0] == 0
    assert len({later - earlier for earlier, later in pairwise(rows)}) <= 1
    assert {(one.kind, one.order, one.accepted, one.pending, one.polls) for one in batch.sampled} == {
        ("kind", 8, 7.0, None, 0)
    }


def test_a_batch_without_requests_has_none_to_learn_from() -> None:
    batch = OpenBatch.of(submission(0), "batch_x", 7.0)
    batch.sample()
    assert batch.sampled == []
