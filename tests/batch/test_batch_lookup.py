"""Is a batch at the service? Asked of lists of many habits, a page at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.lookup import CLOCK_SKEW_S, PAGE, Found, Sight, find
from runner.batch.submission import Draft, Names
from runner.records import Failure
from runner.transport.outcomes import BatchEntry, Listing, Throttled, Transient, Unauthorised, Unsupported

SENT = 1_000_000.0
NO = Failure("no", "no")


def draft(count=3):
    names = Names({f"row-{row}": row for row in range(count)})
    return Draft(0, "ours", "key", "m", names, [range(count)], 9, None, due=SENT - 5, sent=SENT)


def entry(number, label="other", at=SENT, count=3):
    return BatchEntry(f"batch_{number}", label, at, count)


@dataclass
class Service:
    """Lists what it has, the newest first; counts how often it was asked."""

    batches: list[BatchEntry]
    page: int = PAGE
    knows_pages: bool = True
    then: dict[int, object] = field(default_factory=dict)
    """What is said to the n-th question instead."""
    asked: int = 0

    async def list_batches(self, before_id, limit):
        self.asked += 1
        if self.asked in self.then:
            return self.then[self.asked]
        start = 0
        if before_id is not None and self.knows_pages:
            start = [it.id for it in self.batches].index(before_id) + 1
        return Listing(tuple(self.batches[start : start + min(limit, self.page)]))


def search(service, wanted=None):
    return asyncio.run(find(service, wanted or draft()))


OURS = BatchEntry("batch_x", "ours", SENT + 1, 3)


def test_it_is_found_on_the_first_page() -> None:
    service = Service([entry(1), OURS, entry(2)])
    assert search(service) == Found("batch_x", SENT + 1)
    assert service.asked == 1


@pytest.mark.parametrize("page", [1, 2, 7])
def test_it_is_found_on_a_later_page(page: int) -> None:
    service = Service([*map(entry, range(20)), OURS, entry(99)], page)
    assert search(service) == Found("batch_x", SENT + 1)
    assert service.asked == 20 // page + 1


def test_batches_that_are_older_than_its_post_are_not_looked_through() -> None:
    old = [entry(n, at=SENT - CLOCK_SKEW_S - 1) for n in range(50)]
    service = Service([entry(100), *old], page=10)
    assert search(service) is Sight.ABSENT
    assert service.asked == 2, "a page with nothing but old ones is the last"


def test_a_service_that_writes_labels_in_another_case_has_it_all_the_same() -> None:
    assert search(Service([BatchEntry("batch_x", "OURS", SENT, 3)], page=2)) == Found("batch_x", SENT)


def test_a_list_that_is_not_strictly_in_order_is_read_on() -> None:
    mixed = [entry(1, at=SENT), entry(2, at=SENT - CLOCK_SKEW_S - 9)]
    service = Service([*mixed, BatchEntry("batch_x", "ours", SENT, 3)], page=2)
    assert search(service) == Found("batch_x", SENT)


def test_a_service_whose_clock_is_behind_by_less_than_the_skew_has_it_all_the_same() -> None:
    late = SENT - CLOCK_SKEW_S + 1
    service = Service(
        [*(entry(n, at=late) for n in range(9)), BatchEntry("batch_x", "ours", late, 3)], page=2
    )
    assert search(service) == Found("batch_x", late)


@pytest.mark.parametrize("at", [SENT, None])
@pytest.mark.parametrize("count", [0, 1, 5, 25])
def test_a_service_that_knows_no_pages_is_not_asked_for_ever(at: Any, count: int) -> None:
    service = Service([entry(n, at=at) for n in range(count)], page=5, knows_pages=False)
    assert search(service) is Sight.ABSENT
    assert service.asked <= 2


def test_a_service_that_says_no_times_is_read_to_the_end() -> None:
    service = Service([entry(n, at=None) for n in range(23)], page=5)
    assert search(service) is Sight.ABSENT
    assert service.asked == 6
    assert search(Service([*(entry(n, at=None) for n in range(23)), OURS], page=5)) == Found(
        "batch_x", SENT + 1
    )


LIKENESS = [
    (entry(1, label=None), Sight.BLURRED),
    (entry(1, label=None, at=None), Sight.BLURRED),
    (entry(1, label=None, at=SENT - CLOCK_SKEW_S - 1), Sight.ABSENT),
    (entry(1, label=None, count=4), Sight.ABSENT),
    (entry(1, label="other"), Sight.ABSENT),
    (entry(1, label="our"), Sight.ABSENT),
]


@pytest.mark.parametrize(("other", "sight"), LIKENESS)
def test_one_without_a_label_and_as_large_may_be_it(other: Any, sight: Any) -> None:
    assert search(Service([other])) is sight


def test_a_label_outweighs_a_likeness() -> None:
    assert search(Service([entry(1, label=None), OURS])) == Found("batch_x", SENT + 1)


def test_a_batch_of_unknown_size_and_no_label_may_be_it() -> None:
    assert search(Service([entry(1, label=None, count=None)])) is Sight.BLURRED


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    "outcome", [Throttled("429", 1.0, NO), Transient("500", NO, ambiguous=False), Unauthorised(NO)]
)
def test_a_page_that_does_not_come_leaves_it_open(nth: int, outcome: Any) -> None:
    assert search(Service([entry(n) for n in range(9)], page=3, then={nth: outcome})) is outcome


def test_a_service_that_lists_none_cannot_tell() -> None:
    assert search(Service([], then={1: Unsupported(NO)})) is Sight.IMPOSSIBLE


def test_one_that_was_never_sent_is_looked_for_from_when_it_was_cut() -> None:
    never = draft()
    never.sent = None
    assert search(Service([OURS]), never) == Found("batch_x", SENT + 1)


LABELS, TIMES, COUNTS = ["ours", "other", None], [SENT, SENT + 9, None], [3, 4, None]
ENTRIES = st.lists(st.tuples(*map(st.sampled_from, (LABELS, TIMES, COUNTS))), max_size=12)


@settings(max_examples=60)
@given(ENTRIES, st.integers(1, 5))
def test_it_is_found_wherever_it_is_and_nothing_else_is_taken_for_it(drawn: Any, page: Any) -> None:
    batches = [BatchEntry(f"batch_{n}", *it) for n, it in enumerate(drawn)]
    service = Service(batches, page)
    ours = next((it for it in batches if it.label == "ours"), None)
    sight = search(service)
    if ours:
        assert sight == Found(ours.id, ours.created_at)
    else:
        blurred = any(it.label is None and it.count in (3, None) for it in batches)
        assert sight is (Sight.BLURRED if blurred else Sight.ABSENT)
    assert service.asked <= len(batches) // page + 2
