"""The `request` section: what no request body may hold."""

from __future__ import annotations

import datetime as dt
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config.request import check_request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON)
def test_any_json_is_accepted(value: object) -> None:
    check_request({"metadata": value}, is_batch=False)
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("value", [dt.date(2026, 1, 2), b"x", {1}, math.inf, math.nan])
def test_a_value_that_json_cannot_hold_is_refused_at_any_depth(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON: quote it"):
        check_request({"a": [{"b": value}]}, is_batch=False)


def test_streaming_is_refused_in_both_modes() -> None:
    with pytest.raises(ValueError, match="a background job is polled, not streamed"):
        check_request({"stream": True}, is_batch=False)
    with pytest.raises(ValueError, match="a batch is polled, not streamed"):
        check_request({"stream": True}, is_batch=True)


def test_background_false_is_refused_in_background_mode_only() -> None:
    check_request({"background": False}, is_batch=True)
    check_request({"background": True, "stream": False}, is_batch=False)
    with pytest.raises(ValueError, match="background must be true or absent"):
        check_request({"background": False}, is_batch=False)
