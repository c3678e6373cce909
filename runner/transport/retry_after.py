"""Reads how long a service asks to wait, from the headers of an answer."""

from __future__ import annotations

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol


class Headers(Protocol):
    """Headers of an answer; names are compared without case."""

    def get(self, name: str, /) -> str | None:
        """Return the value of a header, or None."""


def read_retry_after(headers: Headers, now: float) -> float | None:
    """Return the seconds to wait from `retry-after-ms` or `Retry-After`, or None if there is neither.

    `Retry-After` may be seconds or a date (RFC 9110, 10.2.3). A date is by the service's clock, so the wait
    counts from the `Date` of the answer, or from `now` (Unix seconds) if it has none.
    """
    millis, said = headers.get("retry-after-ms"), headers.get("retry-after")
    wait_s = _number(millis)
    if wait_s is not None:
        return wait_s / 1000
    wait_s = _number(said)
    if wait_s is not None or said is None:
        return wait_s
    at, sent = _unix(said), _unix(headers.get("date") or "")
    return None if at is None else max(at - (now if sent is None else sent), 0.0)


def _unix(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
        return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
