"""Is the service there, and a Responses API at all? Asked before rows are spent on it, and ever after."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Final

from runner.config import RunConfig
from runner.errors import (
    EndpointUnreachable,
    KeyRefused,
    NothingAccepted,
    OutOfFiles,
    Problem,
    StoppedEarly,
)
from runner.policy.retry import LONGEST_RETRY_AFTER_S
from runner.records import Failure
from runner.transport.outcomes import SILENT, AnyOutcome, Rejected, Throttled, Transient, Unauthorised

FIRST_PATIENCE_S: Final = 3.0
FIRST_FAILURES: Final = 2
"""A wrong address is told within seconds."""
FAILURES: Final = 5
"""An outage is at least this many failures in a row, however long they took."""
MOST_REJECTIONS: Final = 10
"""Requests that are sent, one after the other, to a service that has refused every one before."""


class Contact:
    """What all outcomes together say of the service, from POSTs and GETs alike.

    Until `made`, only one request is under way, and its failure is the run's, not the row's. Later,
    `max_outage_s` of nothing but failures ends the run; a wait that the service asked for comes on top.
    """

    def __init__(
        self,
        config: RunConfig,
        base_url: str,
        warn: Callable[[str], None],
        first_patience_s: float = FIRST_PATIENCE_S,
    ) -> None:
        self._target = config.target
        self._base_url = base_url
        self._first_patience_s = first_patience_s
        self._max_outage_s = config.limits.max_outage_s
        self._warn = warn
        self._failing_since: float | None = None
        self.answered_at = float("-inf")
        """Monotonic time of the last outcome that was not a failure."""
        self._failures = 0
        self.last_failure: Failure | None = None
        self._longest_wait_s = 0.0
        self._rejections = 0
        self.made = False
        self.on_made: Callable[[], None] = lambda: None

    def note(self, outcome: AnyOutcome, now: float) -> StoppedEarly | None:
        """Take one outcome in; `now` on a monotonic clock.

        Returns what ends the run, to be raised once the outcome's own request is dealt with.
        """
        match outcome:
            case Unauthorised(failure=failure):
                return refused(failure, self._target.api_key_env)
            case Transient(cause="no_files", failure=failure):
                return out_of_files(failure)
            case Transient(cause="404" | "405", failure=failure) if not self.made:
                self._rejections = MOST_REJECTIONS
                return self.unreachable(failure)
            case Transient(cause=cause, is_spoken=is_spoken):
                if is_spoken:  # a 5xx otherwise may be a proxy's: not yet the service's voice
                    self.meet()
                # A web page, or JSON of another service, is no more than silence.
                return self._hear_nothing(now, outcome, is_silence=cause in SILENT or not cause.isdigit())
            case Throttled():
                self.meet()
                return self._hear_nothing(now, outcome, is_silence=False)
            case Rejected() if not self.made:
                return self._hear_a_no(outcome)
        self.hear_of_an_answer(now)
        self.meet()
        return None

    def hear_of_an_answer(self, at: float) -> None:
        """The service answered at `at`: this process, or another one of the run."""
        self.answered_at = max(self.answered_at, at)
        if self._failing_since is not None and at >= self._failing_since:
            self._failing_since = None

    def answered_since(self, then: float) -> bool:
        """Whether anything but a failure came back after `then`, monotonic."""
        return self.answered_at > then

    @property
    def wants_another(self) -> bool:
        """Whether one more request may go to a service that has taken none so far."""
        return self._rejections < MOST_REJECTIONS

    def unreachable(self, failure: Failure, outage_s: float = 0.0) -> EndpointUnreachable:
        """The end of a run whose service is not there, or not any more."""
        what = "no Responses API answers there"
        hint = "check target.base_url and the network, then run the same command again"
        if self.made:
            what = f"nothing but failures for {outage_s:.0f} s (limits.max_outage_s)"
            hint = "when the service is back, run the same command again"
        return EndpointUnreachable(Problem(f"{what}: {failure.message}", self._base_url, hint))

    def meet(self) -> None:
        """The service is there: this process has met it, or another one of the run."""
        if not self.made:
            self.made = True
            self.on_made()

    def _hear_a_no(self, outcome: Rejected) -> StoppedEarly | None:
        failure = outcome.failure
        if not outcome.has_envelope and failure.status_code in (404, 405):
            self._rejections = MOST_REJECTIONS
            return self.unreachable(failure)
        self._rejections += 1
        if self._rejections == 1:
            self._warn(f"the first request was rejected: {failure.message}")
        if self.wants_another:
            return None
        return NothingAccepted(
            Problem(
                f"the first {self._rejections} requests were all rejected: {failure.message}",
                self._base_url,
                "no more were sent; mend the request or the address, then start afresh with --new",
            )
        )

    def _hear_nothing(
        self, now: float, outcome: Transient | Throttled, *, is_silence: bool
    ) -> StoppedEarly | None:
        if self._failing_since is None:
            self._failing_since = now
            self._failures = 0
            self._longest_wait_s = 0.0
        self._failures += 1
        self.last_failure = outcome.failure
        asked_s = min(outcome.wait_s or 0.0, LONGEST_RETRY_AFTER_S)
        self._longest_wait_s = max(self._longest_wait_s, asked_s)
        patience_s, failures = self._max_outage_s + self._longest_wait_s, FAILURES
        if not self.made and is_silence:
            patience_s, failures = min(self._first_patience_s, self._max_outage_s), FIRST_FAILURES
        outage_s = now - self._failing_since
        is_over = self._failures >= failures and outage_s >= patience_s
        return self.unreachable(outcome.failure, outage_s) if is_over else None


def out_of_files(failure: Failure) -> OutOfFiles:
    """The end of a run that can open no more connections."""
    return OutOfFiles(
        Problem(
            failure.message,
            f"at most {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} open files",
            "raise `ulimit -n`, or lower submit.concurrency and poll.concurrency; then run it again",
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
