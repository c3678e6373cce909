"""How long to wait before a failed exchange is retried: capped exponential backoff with full jitter."""

from __future__ import annotations

from typing import Final

LONGEST_RETRY_AFTER_S: Final = 3600.0
"""Longest `Retry-After` that is honoured, in seconds; after it the exchange is retried anyway."""


def backoff_s(failures: int, base_s: float, cap_s: float, draw: float) -> float:
    """Return the seconds to wait after the `failures`-th consecutive failure, counted from 1.

    `draw` is uniform in [0, 1). The wait is uniform between zero and min(cap, base · 2^(failures-1)), which
    is called full jitter. Of the schemes compared in M. Brooker, "Exponential Backoff and Jitter" (AWS
    Architecture Blog, 2015), it brings competing clients through with the fewest calls.
    """
    ceiling = cap_s if failures > 64 else min(cap_s, base_s * 2.0 ** (failures - 1))
    return draw * ceiling


def wait_s(failures: int, base_s: float, cap_s: float, draw: float, retry_after_s: float | None) -> float:
    """Return the seconds to wait: `backoff_s` on top of the wait that the service asked for, if any.

    The jitter is added, so that clients that were all asked for the same wait do not return together.
    """
    jitter = backoff_s(failures, base_s, cap_s, draw)
    if retry_after_s is None:
        return jitter
    return min(max(retry_after_s, 0.0), LONGEST_RETRY_AFTER_S) + jitter
