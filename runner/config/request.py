"""The `request` section: fields of every request body. Free-form, so it is checked and not modelled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any


def check_request(request: Mapping[str, Any], *, is_batch: bool) -> None:
    """Raise `ValueError` for a value that JSON cannot hold, or for a key that no request may set."""
    strange = next(_not_json(request), None)
    if strange is not None:
        raise ValueError(f"{strange!r} cannot be written as JSON: quote it")
    if request.get("stream"):
        what = "batch" if is_batch else "background job"
        raise ValueError(f"stream cannot be used: a {what} is polled, not streamed")
    if not is_batch and request.get("background", True) is not True:
        raise ValueError("background must be true or absent: every request is a background job")


def _not_json(value: Any) -> Iterator[Any]:
    """Yield the values in `value` that YAML has and JSON lacks: dates, bytes, sets, infinite numbers."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _not_json(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _not_json(inner)
    elif not (value is None or isinstance(value, str | int)) and not (
        isinstance(value, float) and math.isfinite(value)
    ):
        yield value
