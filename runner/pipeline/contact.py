"""Is there a Responses API at the address? Decided by the first answers, before rows are spent on it."""

from __future__ import annotations

from typing import Final

from runner.errors import EndpointUnreachable, Problem
from runner.records import Failure

PATIENCE_S: Final = 3.0
LEAST_FAILURES: Final = 2


class Contact:
    """Until `made`, only one request is under way, and failing is the run's end instead of the row's."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._first_failure_at: float | None = None
        self._failures = 0
        self.made = False

    def failed(self, now: float, failure: Failure) -> None:
        """An exchange found nobody. Raises `EndpointUnreachable` when that has gone on for too long."""
        if self.made:
            return
        self._failures += 1
        if self._first_failure_at is None:
            self._first_failure_at = now
        if self._failures >= LEAST_FAILURES and now - self._first_failure_at >= PATIENCE_S:
            raise self.unreachable(failure)

    def unreachable(self, failure: Failure) -> EndpointUnreachable:
        """The end of a run that never reached its service."""
        return EndpointUnreachable(
            Problem(
                f"no Responses API answers there: {failure.message}",
                self._base_url,
                "check target.base_url and the network, then run the same command again",
            )
        )
