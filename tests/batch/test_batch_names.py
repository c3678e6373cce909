"""Names at the service: ids that it allows, all different in a batch, and labels of one run alone."""

from __future__ import annotations

import re

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runner.batch.names import label_of, wire_id

ID = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
LABEL = re.compile(r"[a-zA-Z0-9_-]+\Z")
FITTING = st.text("abcxyz0189_-", min_size=1, max_size=64).filter(lambda name: name[0] not in "_-")
ANY_ID = st.one_of(FITTING, st.text(max_size=100), st.text("aA-_0é\ud800", max_size=70))


@settings(max_examples=50)
@given(st.lists(ANY_ID, max_size=30, unique=True))
@example(["a" * 65, "a" * 66, "A", "a", "-", "_", "", "\n", "a\n", "Zoë", "zoe", "\ud800"])
def test_ids_of_every_sort_become_ids_that_the_service_allows_and_stay_different(
    custom_ids: list[str],
) -> None:
    taken: dict[str, str] = {}
    for custom_id in custom_ids:
        name = wire_id(custom_id, taken)
        assert ID.match(name)
        assert len(name) <= 64
        assert name not in taken
        assert wire_id(custom_id, taken) == name
        taken[name] = custom_id


@given(FITTING)
def test_an_id_that_the_service_allows_is_kept(custom_id: str) -> None:
    assert wire_id(custom_id) == custom_id


@given(ANY_ID, ANY_ID)
def test_two_different_ids_become_two_different_ids(one: str, other: str) -> None:
    assume(one != other)
    assert wire_id(one) != wire_id(other)


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_an_id_that_is_taken_gets_the_next_free_number(custom_id: str) -> None:
    taken: set[str] = set()
    for _ in range(12):
        name = wire_id(custom_id, taken)
        assert name not in taken
        assert ID.match(name)
        assert len(name) <= 64
        taken.add(name)


def test_the_longest_ids_have_room_for_numbers() -> None:
    longest = "a" * 64
    taken = {longest, *(f"{longest[: 63 - len(str(n))]}-{n}" for n in range(2, 120))}
    name = wire_id(longest, taken)
    assert name == "a" * 60 + "-120"


@settings(max_examples=50)
@given(
    st.text(min_size=1, max_size=200), st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0)
)
def test_a_label_is_allowed_by_the_service_and_belongs_to_one_run_and_one_number(
    prefix: str, run_id: str, number: int
) -> None:
    assume(number < 10**50)
    label = label_of(prefix, run_id, number)
    assert LABEL.match(label)
    assert len(label) <= 128
    assert label != label_of(prefix, run_id, number + 1)
    assert label != label_of(prefix, run_id[::-1] + "f", number) or run_id[:10] == (run_id[::-1] + "f")[:10]
