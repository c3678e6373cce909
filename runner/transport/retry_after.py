"""How long a service asks to be left alone."""

from __future__ import annotations

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol


class Headers(Protocol):
    """What is asked of an answer's headers, without regard to case."""

    def get(self, name: str, /) -> str | None:
        """The value, or None."""


def read_retry_after(headers: Headers, now: float) -> float | None:
    """Seconds to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date; None without either.

    A date is of the service's clock, so it is taken from the `Date` of the answer (RFC 9110, 10.2.3); from
    `now`, in Unix seconds, only where there is none.
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
