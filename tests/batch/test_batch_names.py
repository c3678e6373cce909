"""What things are called at the service, and which of them a refusal means."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runner.batch.names import label_of, wire_id
from runner.batch.offender import culprit_of

ID = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
LABEL = re.compile(r"[a-zA-Z0-9_-]+\Z")
FITTING = st.text("abcxyz0189_-", min_size=1, max_size=64).filter(lambda name: name[0] not in "_-")
ANY_ID = st.one_of(FITTING, st.text(max_size=100), st.text("aA-_0é\ud800", max_size=70))


@settings(max_examples=50)
@given(st.lists(ANY_ID, max_size=30, unique=True))
@example(["a" * 65, "a" * 66, "A", "a", "-", "_", "", "\n", "a\n", "Zoë", "zoe", "\ud800"])
def test_whatever_ids_are_called_the_service_takes_them_and_tells_them_apart(custom_ids: Any) -> None:
    taken: dict[str, str] = {}
    for custom_id in custom_ids:
        name = wire_id(custom_id, taken)
        assert ID.match(name)
        assert len(name) <= 64
        assert name not in taken
        assert wire_id(custom_id, taken) == name
        taken[name] = custom_id


@given(FITTING)
def test_an_id_that_fits_is_left_as_it_is(custom_id: Any) -> None:
    assert wire_id(custom_id) == custom_id


@given(ANY_ID, ANY_ID)
def test_two_ids_that_do_not_fit_do_not_meet(one: Any, other: Any) -> None:
    assume(one != other)
    assert wire_id(one) != wire_id(other)


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_one_id_taken_by_a_look_alike_gets_a_number_and_goes_on_counting(custom_id: Any) -> None:
    taken: set[str] = set()
    for _ in range(12):
        name = wire_id(custom_id, taken)
        assert name not in taken
        assert ID.match(name)
        assert len(name) <= 64
        taken.add(name)


def test_numbers_of_the_longest_ids_fit_too() -> None:
    longest = "a" * 64
    taken = {longest, *(f"{longest[: 63 - len(str(n))]}-{n}" for n in range(2, 120))}
    name = wire_id(longest, taken)
    assert name == "a" * 60 + "-120"


@settings(max_examples=50)
@given(
    st.text(min_size=1, max_size=200), st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0)
)
def test_a_label_is_one_that_the_service_takes_and_no_other_run_has(
    begins: Any, run_id: Any, number: Any
) -> None:
    assume(number < 10**50)
    label = label_of(begins, run_id, number)
    assert LABEL.match(label)
    assert len(label) <= 128
    assert label != label_of(begins, run_id, number + 1)
    assert label != label_of(begins, run_id[::-1] + "f", number) or run_id[:10] == (run_id[::-1] + "f")[:10]


IDS = {name: row for row, name in enumerate(["row-0", "row-1", "model", "a", "row_3", "x9"])}

NAMED = [
    # param, message, which
    ("requests[2].params.model", "no", "model"),
    ("requests.0.params", "no", "row-0"),
    ("/requests/5/params/temperature", "no", "x9"),
    ("requests[1]", "no", "row-1"),
    ("body.requests.4.params.temperature", "no", "row_3"),
    (None, "requests[1] (custom_id 'row-1'): Expected `float` <= 2.0", "row-1"),
    (None, "request.1.params is wrong", "row-1"),
    (None, "custom_id 'row-1': temperature is too large", "row-1"),
    (None, 'custom_id "row_3" is wrong', "row_3"),
    (None, "custom_id: row-1 is wrong", "row-1"),
    (None, "Custom ID x9 has a bad temperature", "x9"),
    (None, "the request `row-0` is wrong", "row-0"),
    (None, "the request “row-0” is wrong", "row-0"),
    ("params.temperature", "'row-1': too large", "row-1"),
    ("custom_id", "'row-1' is taken", "row-1"),
    ("requests[0].params.model", "requests[1] is fine", "row-0"),
    # none
    (None, "model a is not known, x9", None),
    (None, "", None),
    ("", "requests are too many", None),
    (None, "custom_id 'row-77' is wrong", None),
    (None, "'rowdy' is wrong", None),
    # several
    (None, "requests[0] and requests[1] have one custom_id", None),
    (None, "custom_id 'row-0' and custom_id 'row-1' are wrong", None),
    (None, "custom_id row-0 and custom_id 'row-1' are wrong", None),
    (None, "'row-0' is like 'row-1'", None),
    # out of range
    ("requests[6].params", "no", None),
    (None, "requests[999999] is wrong", None),
    (None, "requests[9999999] is wrong", None),
]


@pytest.mark.parametrize(("param", "message", "which"), NAMED)
def test_a_refusal_means_the_one_request_that_it_names(param: Any, message: Any, which: Any) -> None:
    assert culprit_of(param, message, IDS) == which


@settings(max_examples=60)
@given(st.none() | st.text(max_size=60), st.text(max_size=120))
def test_whatever_a_service_says_the_culprit_is_in_the_batch_or_there_is_none(
    param: Any, message: Any
) -> None:
    assert culprit_of(param, message, IDS) in {None, *IDS}
    assert culprit_of(param, message, {}) is None


@given(st.integers(0, 5), st.sampled_from(["requests[{}].params.x", "requests.{}", "/requests/{}/params"]))
def test_a_place_is_counted_in_the_order_of_the_body(place: Any, form: Any) -> None:
    assert culprit_of(form.format(place), "no", IDS) == list(IDS)[place]
