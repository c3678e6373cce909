"""Times and usages of requests that ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.records import Timing


@pytest.fixture
def timing() -> Callable[..., Timing]:
    """Due at 100; the rest in seconds after that, None for what did not happen."""

    def timing(
        sent: float | None = 1.0,
        accepted: float | None = 2.0,
        pending: float | None = 7.0,
        done: float = 10.0,
    ) -> Timing:
        def at(seconds: float | None) -> float | None:
            return None if seconds is None else 100.0 + seconds

        return Timing(due=100.0, sent=at(sent), accepted=at(accepted), pending=at(pending), done=100.0 + done)

    return timing
