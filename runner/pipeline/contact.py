"""Is the service there, and a Responses API at all? Asked before rows are spent on it, and ever after."""

from __future__ import annotations

from typing import Final

from runner.errors import EndpointUnreachable, KeyRefused, NothingAccepted, Problem
from runner.records import Failure

FIRST_PATIENCE_S: Final = 3.0
FIRST_FAILURES: Final = 2
"""A wrong address is told within seconds."""
PATIENCE_S: Final = 60.0
FAILURES: Final = 5
"""A service that did answer before may restart, or the network may have a bad minute."""


MOST_REJECTIONS: Final = 10
"""Requests that are sent, one after the other, to a service that has refused every one before."""


class Contact:
    """Ends the run when nothing but silence has come back for some time, from POSTs and GETs together.

    Until `made`, only one request is under way, and its failure is the run's, not the row's.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._silent_since: float | None = None
        self._failures = 0
        self._rejections = 0
        self.made = False

    def answered(self) -> None:
        """A Responses API answered."""
        self.made = True
        self._silent_since = None
        self._failures = 0

    def rejected(self) -> int:
        """The service refused a request before it ever took one; returns how many that makes."""
        self._rejections += 1
        return self._rejections

    def check_rejections(self, failure: Failure) -> None:
        """Raises `NothingAccepted` when the first requests were refused one and all."""
        if not self.made and self._rejections >= MOST_REJECTIONS:
            raise NothingAccepted(
                Problem(
                    f"the first {self._rejections} requests were all rejected: {failure.message}",
                    self._base_url,
                    "no more were sent; mend the request or the address, then start afresh with --new",
                )
            )

    def failed(self, now: float, failure: Failure) -> None:
        """An exchange brought nothing. Raises `EndpointUnreachable` when that has gone on for too long."""
        self._failures += 1
        if self._silent_since is None:
            self._silent_since = now
        patience_s, failures = (PATIENCE_S, FAILURES) if self.made else (FIRST_PATIENCE_S, FIRST_FAILURES)
        if self._failures >= failures and now - self._silent_since >= patience_s:
            raise self.unreachable(failure)

    def unreachable(self, failure: Failure) -> EndpointUnreachable:
        """The end of a run whose service is not there."""
        what = "no answer any more" if self.made else "no Responses API answers there"
        return EndpointUnreachable(
            Problem(
                f"{what}: {failure.message}",
                self._base_url,
                "check target.base_url and the network, then run the same command again",
            )
        )


def refused(failure: Failure, api_key_env: str) -> KeyRefused:
    """The end of a run whose key or account the service refuses."""
    return KeyRefused(
        Problem(
            f"the service refuses the API key or its account: {failure.message}",
            f"HTTP {failure.status_code}",
            f"check the key in {api_key_env}, then run the same command again",
        )
    )
