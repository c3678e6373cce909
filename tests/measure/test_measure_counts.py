"""The counters of several processes become one, and none can be forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.measure.counts import Counts, Earliest, Latest, Tally, earliest, latest, merged
from runner.measure.in_flight import InFlight
from runner.records import RESULT_STATUSES

TIMES = st.none() | st.floats(0, 1e9)
TALLIES = st.dictionaries(st.sampled_from(["completed", "429", "other"]), st.integers(0, 9))
COUNTS = st.builds(
    Counts,
    statuses=TALLIES,
    wire=TALLIES,
    accepted=st.integers(0, 9),
    polls=st.integers(0, 9),
    first_accepted_mono=TIMES,
    last_done=TIMES,
)


@given(st.lists(COUNTS, min_size=1, max_size=4))
def test_numbers_and_tallies_add_up_and_times_are_compared(parts: list[Counts]) -> None:
    whole = merged(parts)

    assert whole.accepted == sum(part.accepted for part in parts)
    assert whole.statuses == sum((part.statuses for part in parts), Counter())
    assert whole.first_accepted_mono == earliest(part.first_accepted_mono for part in parts)
    assert whole.last_done == latest(part.last_done for part in parts)


@given(st.lists(COUNTS, min_size=1, max_size=4), COUNTS)
def test_parts_can_be_merged_in_any_order_and_in_any_groups(parts: list[Counts], last: Counts) -> None:
    assert merged([*parts, last]) == merged([last, *reversed(parts)]) == merged([merged(parts), last])


@given(COUNTS)
def test_counts_survive_the_way_between_processes(counts: Counts) -> None:
    by_msgpack = msgspec.msgpack.decode(msgspec.msgpack.encode(counts), type=Counts)
    by_json = msgspec.json.decode(msgspec.json.encode(counts), type=Counts)

    assert by_msgpack == by_json == counts
    by_msgpack.submit_retries["429"] += 1  # a key that is new counts from zero
    assert by_msgpack.statuses.total() == counts.statuses.total()


def test_merging_changes_no_part() -> None:
    part = Counts(wire=Counter(requests=1))
    whole = merged([part, part])
    whole.wire["requests"] += 5

    assert part.wire == {"requests": 1}


def test_new_counts_have_a_zero_for_every_status_in_the_order_of_the_contract() -> None:
    assert list(merged([Counts(), Counts()]).statuses) == list(RESULT_STATUSES)
    assert list(Counts().wire) == ["requests", "sent_bytes", "received_bytes"]
    assert list(Counts().tokens) == ["input", "cached", "output", "reasoning"]


def test_of_no_times_none_is_the_earliest_or_the_latest() -> None:
    assert earliest([None, None]) is latest([]) is None
    assert (earliest([3.0, None, 2.0]), latest([3.0, None, 2.0])) == (2.0, 3.0)


ONES: dict[Any, Callable[[], Any]] = {
    int: lambda: 1,
    Tally: lambda: Counter(x=1),
    Earliest: lambda: 1.0,
    Latest: lambda: 1.0,
}
TWOS: dict[Any, Callable[[], Any]] = ONES | {int: lambda: 2, Tally: lambda: Counter(x=2)}


@pytest.mark.parametrize("kind", [Counts, InFlight])
def test_every_field_is_merged(kind: type[msgspec.Struct]) -> None:
    hints = get_type_hints(kind, include_extras=True)
    one = kind(**{name: ONES[hint]() for name, hint in hints.items()})
    two = kind(**{name: TWOS[hint]() for name, hint in hints.items()})

    assert set(hints) == set(kind.__struct_fields__)
    assert merged([one, one]) == two


def test_a_field_that_no_rule_merges_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeError, match=r"Odd\.name: no rule merges a <class 'str'>"):
        merged([Odd("a"), Odd("b")])
    with pytest.raises(TypeError, match=r"Flag\.up"):  # an int, and yet no number
        merged([Flag(up=True)])


class Odd(msgspec.Struct):
    name: str


class Flag(msgspec.Struct):
    up: bool
