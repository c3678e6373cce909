"""Times of requests that ended."""

from __future__ import annotations

from typing import Protocol

import pytest

from runner.records import Timing


class MakeTiming(Protocol):
    """Makes the times of a request that was due at 100, from seconds after that; None: did not happen."""

    def __call__(
        self,
        *,
        sent: float | None = 1.0,
        accepted: float | None = 2.0,
        pending: float | None = 7.0,
        done: float = 10.0,
    ) -> Timing: ...


@pytest.fixture
def timing() -> MakeTiming:
    def at(seconds: float | None) -> float | None:
        return None if seconds is None else 100.0 + seconds

    def timing(
        *,
        sent: float | None = 1.0,
        accepted: float | None = 2.0,
        pending: float | None = 7.0,
        done: float = 10.0,
    ) -> Timing:
        return Timing(due=100.0, sent=at(sent), accepted=at(accepted), pending=at(pending), done=100.0 + done)

    return timing
