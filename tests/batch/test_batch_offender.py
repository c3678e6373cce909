"""Which request of a batch a refusal names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.offender import find_offending_request

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
def test_the_offending_request_is_the_only_one_that_the_refusal_names(
    param: str | None, message: str, which: str | None
) -> None:
    assert find_offending_request(param, message, IDS) == which


@settings(max_examples=60)
@given(st.none() | st.text(max_size=60), st.text(max_size=120))
def test_the_offending_request_is_always_one_of_the_batch_or_none(param: str | None, message: str) -> None:
    assert find_offending_request(param, message, IDS) in {None, *IDS}
    assert find_offending_request(param, message, {}) is None


@given(st.integers(0, 5), st.sampled_from(["requests[{}].params.x", "requests.{}", "/requests/{}/params"]))
def test_positions_are_counted_in_the_order_of_the_body(position: int, form: str) -> None:
    assert find_offending_request(form.format(position), "no", IDS) == list(IDS)[position]
