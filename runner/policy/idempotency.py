"""Idempotency keys: how they are derived, and for how long they make sending a request again harmless."""

from __future__ import annotations

import hashlib
from typing import Final

KEY_LIFE_S: Final = 23 * 3600.0
"""Age of a first POST up to which its key protects, in seconds.

Services keep a key for 24 hours; one hour is left for clocks that disagree.
"""
CLOCK_SKEW_S: Final = 300.0
"""Seconds by which a first POST may lie in the future and still count as just sent.

One from further ahead was recorded by a clock that was set back since: its age is unknown.
"""


def is_protected(has_key_header: bool, sent: float | None, now: float) -> bool:
    """Return whether the service still knows the key of a first POST, if it ever received it.

    `sent` is when that POST began, or None if it has not been made; `now` is the present. Both are Unix
    seconds, because the POST may be one of an earlier session. `has_key_header` says whether the service
    takes keys at all.
    """
    if not has_key_header:
        return False
    age_s = 0.0 if sent is None else now - sent
    return -CLOCK_SKEW_S < age_s < KEY_LIFE_S


def idempotency_key(run_id: str, custom_id: str, epoch: int, body: bytes) -> str:
    """Return the key that every attempt of a request shares, in this session and the next ones.

    It is the hex SHA-256 (64 characters) of the run, the row's `custom_id`, its epoch and the exact bytes
    of the body. A row that is retried after a definite failure has a new epoch, and so a new key.
    """
    hasher = hashlib.sha256(f"{run_id}\0{custom_id}\0{epoch}\0".encode())
    hasher.update(body)
    return hasher.hexdigest()
