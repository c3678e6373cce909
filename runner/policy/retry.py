"""When a failed exchange is tried again: capped exponential backoff with full jitter."""

from __future__ import annotations

from typing import Final

LONGEST_RETRY_AFTER_S: Final = 3600.0
"""A service that says to wait longer than this is asked again after this long all the same."""


def backoff_s(failures: int, base_s: float, cap_s: float, draw: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (from 1); `draw` is uniform in [0, 1).

    Full jitter: uniform between zero and min(cap, base · 2^(failures-1)). Of the schemes compared in
    M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015), it brings competing
    clients through with the fewest calls.
    """
    ceiling = cap_s if failures > 64 else min(cap_s, base_s * 2.0 ** (failures - 1))
    return draw * ceiling


def wait_s(failures: int, base_s: float, cap_s: float, draw: float, retry_after_s: float | None) -> float:
    """As `backoff_s`, with what the service asked for (`Retry-After`) as the floor.

    The jitter comes on top of the floor, so that those who were all told the same do not all return at once.
    """
    jitter = backoff_s(failures, base_s, cap_s, draw)
    if retry_after_s is None:
        return jitter
    return min(max(retry_after_s, 0.0), LONGEST_RETRY_AFTER_S) + jitter
