"""Whether the service is there and offers a Responses API: before rows are spent on it, and afterwards."""

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
"""Seconds of failures after which an address that never answered is given up: a typo shows quickly."""
FIRST_FAILURES: Final = 2
"""Least failures after which an address that never answered is given up."""
FAILURES: Final = 5
"""Least consecutive failures of an outage, however long they took."""
MOST_REJECTIONS: Final = 10
"""Requests that are sent, one after the other, to a service that has rejected every one before."""
_NO_ANSWERS: Final = (Transient, Throttled, Unauthorised)
"""Outcomes that are more than an answer about one request; a tuple, because a union is built at each use."""


class ServiceHealth:
    """Judges the service by all outcomes together, of POSTs and GETs alike.

    Until the service `is_confirmed`, only one request is sent at a time, and its failure is the run's, not
    the row's. Later, `limits.max_outage_s` of nothing but failures ends the run; a wait that the service
    asked for comes on top.
    """

    def __init__(
        self,
        config: RunConfig,
        base_url: str,
        first_patience_s: float,
        *,
        say: Callable[[str], None],
        on_confirmed: Callable[[], None],
    ) -> None:
        """`on_confirmed` is called when the service is first known to be there."""
        self._target = config.target
        self._base_url = base_url
        self._first_patience_s = first_patience_s
        self._max_outage_s = config.limits.max_outage_s
        self._say = say
        self._on_confirmed = on_confirmed
        self._failing_since_mono: float | None = None
        self.answered_at_mono = float("-inf")
        """Monotonic time of the last outcome that was not a failure."""
        self._failures = 0
        self.last_failure: Failure | None = None
        """The last failure, while nothing else has come back since."""
        self._longest_wait_s = 0.0
        self._rejections = 0
        self.is_confirmed = False
        """Whether the service has answered as a Responses API does."""

    def __repr__(self) -> str:
        state = "confirmed" if self.is_confirmed else f"unconfirmed, {self._rejections} rejections"
        return f"<ServiceHealth {state}{'' if self._failing_since_mono is None else ', failing'}>"

    def record(self, outcome: AnyOutcome, now_mono: float) -> StoppedEarly | None:
        """Take one outcome into account.

        Returns what ends the run, to be raised once the outcome's own request is dealt with.
        """
        if self.is_confirmed and not isinstance(outcome, _NO_ANSWERS):
            # As in `record_answer`, for the present.
            self.answered_at_mono = now_mono
            self._failing_since_mono = None
            return None
        match outcome:
            case Unauthorised(failure=failure):
                return key_refused(failure, self._target.api_key_env)
            case Transient(cause="no_files", failure=failure):
                return out_of_files(failure)
            case Transient(cause="404" | "405", failure=failure) if not self.is_confirmed:
                self._rejections = MOST_REJECTIONS
                return self.unreachable(failure)
            case Transient(cause=cause, is_spoken=is_spoken):
                if is_spoken:  # a 5xx otherwise may be a proxy's: not yet the service's voice
                    self.confirm()
                # A web page, or JSON of another service, is no more than silence.
                is_silence = cause in SILENT or not cause.isdigit()
                return self._record_failure(now_mono, outcome, is_silence=is_silence)
            case Throttled():
                self.confirm()
                return self._record_failure(now_mono, outcome, is_silence=False)
            case Rejected():
                return self._record_rejection(outcome)
        self.record_answer(now_mono)
        self.confirm()
        return None

    def record_answer(self, at_mono: float) -> None:
        """Note that the service answered at `at_mono`: this process, or another one of the run."""
        if at_mono > self.answered_at_mono:
            self.answered_at_mono = at_mono
        if self._failing_since_mono is not None and at_mono >= self._failing_since_mono:
            self._failing_since_mono = None

    def answered_since(self, then_mono: float) -> bool:
        """Return whether anything but a failure came back after `then_mono`."""
        return self.answered_at_mono > then_mono

    @property
    def allows_another(self) -> bool:
        """Whether one more request may go to a service that has accepted none so far."""
        return self._rejections < MOST_REJECTIONS

    def unreachable(self, failure: Failure, outage_s: float = 0.0) -> EndpointUnreachable:
        """Return the end of a run whose service is not there, or not any more."""
        what = "no Responses API answers there"
        hint = "check target.base_url and the network, then run the same command again"
        if self.is_confirmed:
            what = f"nothing but failures for {outage_s:.0f} s (limits.max_outage_s)"
            hint = "when the service is back, run the same command again"
        return EndpointUnreachable(Problem(f"{what}: {failure.message}", self._base_url, hint))

    def confirm(self) -> None:
        """Note that the service is there: this process has seen it, or another one of the run."""
        if not self.is_confirmed:
            self.is_confirmed = True
            self._on_confirmed()

    def _record_rejection(self, outcome: Rejected) -> StoppedEarly | None:
        failure = outcome.failure
        if not outcome.has_envelope and failure.status_code in (404, 405):
            self._rejections = MOST_REJECTIONS
            return self.unreachable(failure)
        self._rejections += 1
        if self._rejections == 1:
            self._say(f"the first request was rejected: {failure.message}")
        if self.allows_another:
            return None
        return NothingAccepted(
            Problem(
                f"the first {self._rejections} requests were all rejected: {failure.message}",
                self._base_url,
                "no more were sent; fix the request or the address, then start over with --new",
            )
        )

    def _record_failure(
        self, now_mono: float, outcome: Transient | Throttled, *, is_silence: bool
    ) -> StoppedEarly | None:
        if self._failing_since_mono is None:
            self._failing_since_mono = now_mono
            self._failures = 0
            self._longest_wait_s = 0.0
        self._failures += 1
        self.last_failure = outcome.failure
        asked_s = min(outcome.wait_s or 0.0, LONGEST_RETRY_AFTER_S)
        self._longest_wait_s = max(self._longest_wait_s, asked_s)
        patience_s, failures = self._max_outage_s + self._longest_wait_s, FAILURES
        if not self.is_confirmed and is_silence:
            patience_s, failures = min(self._first_patience_s, self._max_outage_s), FIRST_FAILURES
        outage_s = now_mono - self._failing_since_mono
        is_over = self._failures >= failures and outage_s >= patience_s
        return self.unreachable(outcome.failure, outage_s) if is_over else None


def out_of_files(failure: Failure) -> OutOfFiles:
    """Return the end of a run that can open no more connections."""
    return OutOfFiles(
        Problem(
            failure.message,
            f"at most {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} open files",
            "raise `ulimit -n`, or lower submit.concurrency and poll.concurrency; then run it again",
        )
    )


def key_refused(failure: Failure, api_key_env: str) -> KeyRefused:
    """Return the end of a run whose key or account the service refuses."""
    return KeyRefused(
        Problem(
            f"the service refuses the API key or its account: {failure.message}",
            f"HTTP {failure.status_code}",
            f"check the key in {api_key_env}, then run the same command again",
        )
    )
