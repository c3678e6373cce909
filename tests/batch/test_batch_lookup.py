"""The lookup of a batch whose acknowledgement was lost, in lists of many habits, a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.lookup import CLOCK_SKEW_S, PAGE, Found, LookupOutcome, Sight, look_up
from runner.batch.submission import BatchSubmission, Names
from runner.records import Failure
from runner.transport.fake import Fake
from runner.transport.outcomes import (
    BatchEntry,
    Listing,
    ListOutcome,
    Throttled,
    Transient,
    Unauthorised,
    Unsupported,
)

SENT = 1_000_000.0
NO = Failure("no", "no")


def submission(count: int = 3, sent: float | None = SENT) -> BatchSubmission:
    names = Names({f"row-{row}": row for row in range(count)})
    return BatchSubmission(0, "ours", "key", "m", names, [range(count)], 9, None, due=SENT - 5, sent=sent)


def entry(
    number: int, label: str | None = "other", at: float | None = SENT, count: int | None = 3
) -> BatchEntry:
    return BatchEntry(f"batch_{number}", label, at, count)


class Lister(Fake):
    """A service that lists these batches, the newest first, and counts how often it was asked."""

    def __init__(
        self,
        batches: Sequence[BatchEntry],
        page: int = PAGE,
        *,
        knows_pages: bool = True,
        then: Mapping[int, ListOutcome] | None = None,
    ) -> None:
        """`then` has the outcomes of single calls, by their numbers from 1."""
        super().__init__()
        self.batches = batches
        self.page = page
        self.knows_pages = knows_pages
        self.then = then or {}
        self.asked = 0

    async def list_batches(self, before_id: str | None, limit: int) -> ListOutcome:
        self.asked += 1
        if self.asked in self.then:
            return self.then[self.asked]
        start = 0
        if before_id is not None and self.knows_pages:
            start = [it.id for it in self.batches].index(before_id) + 1
        return Listing(tuple(self.batches[start : start + min(limit, self.page)]))


def search(service: Lister, wanted: BatchSubmission | None = None) -> LookupOutcome:
    return asyncio.run(look_up(service, wanted or submission()))


OURS = BatchEntry("batch_x", "ours", SENT + 1, 3)


def test_a_batch_is_found_on_the_first_page() -> None:
    service = Lister([entry(1), OURS, entry(2)])
    assert search(service) == Found("batch_x", SENT + 1)
    assert service.asked == 1


@pytest.mark.parametrize("page", [1, 2, 7])
def test_a_batch_is_found_on_a_later_page(page: int) -> None:
    service = Lister([*map(entry, range(20)), OURS, entry(99)], page)
    assert search(service) == Found("batch_x", SENT + 1)
    assert service.asked == 20 // page + 1


def test_the_list_is_not_read_beyond_batches_that_are_older_than_the_first_post() -> None:
    old = [entry(n, at=SENT - CLOCK_SKEW_S - 1) for n in range(50)]
    service = Lister([entry(100), *old], page=10)
    assert search(service) is Sight.ABSENT
    assert service.asked == 2, "a page with nothing but old batches is the last"


def test_labels_are_compared_without_case() -> None:
    assert search(Lister([BatchEntry("batch_x", "OURS", SENT, 3)], page=2)) == Found("batch_x", SENT)


def test_a_list_that_is_not_strictly_in_order_is_read_on() -> None:
    mixed = [entry(1, at=SENT), entry(2, at=SENT - CLOCK_SKEW_S - 9)]
    service = Lister([*mixed, BatchEntry("batch_x", "ours", SENT, 3)], page=2)
    assert search(service) == Found("batch_x", SENT)


def test_a_batch_is_found_at_a_service_whose_clock_is_behind() -> None:
    late = SENT - CLOCK_SKEW_S + 1
    service = Lister([*(entry(n, at=late) for n in range(9)), BatchEntry("batch_x", "ours", late, 3)], page=2)
    assert search(service) == Found("batch_x", late)


@pytest.mark.parametrize("at", [SENT, None])
@pytest.mark.parametrize("count", [0, 1, 5, 25])
def test_a_service_without_pages_is_asked_twice_at_most(at: float | None, count: int) -> None:
    service = Lister([entry(n, at=at) for n in range(count)], page=5, knows_pages=False)
    assert search(service) is Sight.ABSENT
    assert service.asked <= 2


def test_a_list_without_times_is_read_to_the_end() -> None:
    service = Lister([entry(n, at=None) for n in range(23)], page=5)
    assert search(service) is Sight.ABSENT
    assert service.asked == 6
    assert search(Lister([*(entry(n, at=None) for n in range(23)), OURS], page=5)) == Found(
        "batch_x", SENT + 1
    )


LIKENESS = [
    (entry(1, label=None), Sight.INCONCLUSIVE),
    (entry(1, label=None, at=None), Sight.INCONCLUSIVE),
    (entry(1, label=None, at=SENT - CLOCK_SKEW_S - 1), Sight.ABSENT),
    (entry(1, label=None, count=4), Sight.ABSENT),
    (entry(1, label="other"), Sight.ABSENT),
    (entry(1, label="our"), Sight.ABSENT),
]


@pytest.mark.parametrize(("other", "sight"), LIKENESS)
def test_a_batch_without_a_label_and_of_the_same_size_makes_a_lookup_inconclusive(
    other: BatchEntry, sight: Sight
) -> None:
    assert search(Lister([other])) is sight


def test_a_batch_with_the_label_is_found_even_if_another_one_has_none() -> None:
    assert search(Lister([entry(1, label=None), OURS])) == Found("batch_x", SENT + 1)


def test_a_batch_of_unknown_size_and_without_a_label_makes_a_lookup_inconclusive() -> None:
    assert search(Lister([entry(1, label=None, count=None)])) is Sight.INCONCLUSIVE


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    "outcome", [Throttled("429", 1.0, NO), Transient("500", NO, ambiguous=False), Unauthorised(NO)]
)
def test_a_page_that_does_not_come_is_the_outcome_of_the_lookup(nth: int, outcome: ListOutcome) -> None:
    assert search(Lister([entry(n) for n in range(9)], page=3, then={nth: outcome})) is outcome


def test_at_a_service_without_a_list_a_lookup_is_impossible() -> None:
    assert search(Lister([], then={1: Unsupported(NO)})) is Sight.IMPOSSIBLE


def test_the_list_is_read_back_to_when_the_batch_was_cut_if_it_was_never_sent() -> None:
    never = submission(sent=None)
    assert search(Lister([OURS]), never) == Found("batch_x", SENT + 1)


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["ours", "other", None]),
        st.sampled_from([SENT, SENT + 9, None]),
        st.sampled_from([3, 4, None]),
    ),
    max_size=12,
)
"""Label, creation time and size of each batch that is listed."""


@settings(max_examples=60)
@given(ENTRIES, st.integers(1, 5))
def test_a_batch_is_found_wherever_it_is_and_no_other_is_taken_for_it(
    drawn: list[tuple[str | None, float | None, int | None]], page: int
) -> None:
    batches = [BatchEntry(f"batch_{n}", *it) for n, it in enumerate(drawn)]
    service = Lister(batches, page)
    ours = next((it for it in batches if it.label == "ours"), None)
    sight = search(service)
    if ours:
        assert sight == Found(ours.id, ours.created_at)
    else:
        is_inconclusive = any(it.label is None and it.count in (3, None) for it in batches)
        assert sight is (Sight.INCONCLUSIVE if is_inconclusive else Sight.ABSENT)
    assert service.asked <= len(batches) // page + 2
