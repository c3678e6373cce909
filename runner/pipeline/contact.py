"""Is the service there, and a Responses API at all? Asked before rows are spent on it, and ever after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from runner.errors import EndpointUnreachable, KeyRefused, NothingAccepted, Problem
from runner.records import Failure
from runner.transport.outcomes import (
    SILENT,
    Rejected,
    RetrieveOutcome,
    SubmitOutcome,
    Transient,
    Unauthorised,
)

FIRST_PATIENCE_S: Final = 3.0
FIRST_FAILURES: Final = 2
"""A wrong address is told within seconds."""
PATIENCE_S: Final = 60.0
FAILURES: Final = 5
"""A service that did answer before may restart, or the network may have a bad minute."""
MOST_REJECTIONS: Final = 10
"""Requests that are sent, one after the other, to a service that has refused every one before."""


class Contact:
    """What all outcomes together say of the service, from POSTs and GETs alike.

    Until `made`, only one request is under way, and its failure is the run's, not the row's. Later, a
    minute of nothing but silence ends the run.
    """

    def __init__(self, base_url: str, warn: Callable[[str], None]) -> None:
        self._base_url = base_url
        self._warn = warn
        self._silent_since: float | None = None
        self._failures = 0
        self._rejections = 0
        self.made = False
        self.on_made: Callable[[], None] = lambda: None

    def note(self, outcome: SubmitOutcome | RetrieveOutcome, now: float) -> None:
        """Take one outcome in; `now` on a monotonic clock. Raises `EndpointUnreachable`."""
        match outcome:
            case Unauthorised():
                return
            case Transient(cause=cause, failure=failure) if cause in SILENT:
                self._hear_nothing(now, failure)
            case Transient(cause=cause, failure=failure) if not self.made:
                # A web page, or JSON of another service. A 5xx may be a proxy's: not yet the service's voice.
                if not cause.isdigit():
                    self._hear_nothing(now, failure)
            case Rejected() if not self.made:
                self._hear_a_no(outcome)
            case _:
                self._hear_it()

    @property
    def wants_another(self) -> bool:
        """Whether one more request may go to a service that has taken none so far."""
        return self._rejections < MOST_REJECTIONS

    def check_rejections(self, failure: Failure) -> None:
        """Raises `NothingAccepted` when the first requests were refused one and all."""
        if not self.made and not self.wants_another:
            raise NothingAccepted(
                Problem(
                    f"the first {self._rejections} requests were all rejected: {failure.message}",
                    self._base_url,
                    "no more were sent; mend the request or the address, then start afresh with --new",
                )
            )

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

    def _hear_it(self) -> None:
        self._silent_since = None
        self._failures = 0
        if not self.made:
            self.made = True
            self.on_made()

    def _hear_a_no(self, outcome: Rejected) -> None:
        if not outcome.has_envelope and outcome.failure.status_code in (404, 405):
            raise self.unreachable(outcome.failure)
        self._rejections += 1
        if self._rejections == 1:
            self._warn(f"the first request was rejected: {outcome.failure.message}")

    def _hear_nothing(self, now: float, failure: Failure) -> None:
        self._failures += 1
        if self._silent_since is None:
            self._silent_since = now
        patience_s, failures = (PATIENCE_S, FAILURES) if self.made else (FIRST_PATIENCE_S, FIRST_FAILURES)
        if self._failures >= failures and now - self._silent_since >= patience_s:
            raise self.unreachable(failure)


def refused(failure: Failure, api_key_env: str) -> KeyRefused:
    """The end of a run whose key or account the service refuses."""
    return KeyRefused(
        Problem(
            f"the service refuses the API key or its account: {failure.message}",
            f"HTTP {failure.status_code}",
            f"check the key in {api_key_env}, then run the same command again",
        )
    )
