"""One sort of exchange: when the next may start, and what each outcome means for the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from runner.errors import StoppedEarly
from runner.policy.admission import Admission, Effect, Exchange
from runner.session.health import ServiceHealth
from runner.transport.outcomes import AnyOutcome, Throttled, Transient, Unauthorised

WORTH_SAYING_S: Final = 10.0
"""Shortest wait asked for by the service that the user is informed of."""
_EFFECTS: Final = {
    Throttled: Effect.THROTTLED,
    Transient: Effect.FAILED,
    Unauthorised: Effect.UNAUTHORISED,
}
"""What an outcome shows of the service, by its type; every other type is an answer."""


class Exchanges:
    """Asks the rules of admission before each exchange, and reports to them, and to health, how it ended.

    POSTs, polls, uploads, fetches and cancellations each have one of their own.
    """

    def __init__(
        self,
        admission: Admission,
        health: ServiceHealth,
        *,
        say: Callable[[str], None],
        on_reopened: Callable[[], None],
    ) -> None:
        """`on_reopened` is called when others may start because of how one has ended."""
        self._admission = admission
        self._health = health
        self._say = say
        self._on_reopened = on_reopened
        self._waiting_until_mono = float("-inf")
        self.opens_at = admission.opens_at
        """Return the monotonic time from which one more may start, given the present."""
        self.started = admission.started
        """Note that one starts now."""
        self.dropped = admission.dropped
        """Note that one that was to start was not needed after all."""

    def __repr__(self) -> str:
        return f"<Exchanges {self._admission!r}>"

    def settle(self, outcome: AnyOutcome, started_mono: float, ended_mono: float) -> StoppedEarly | None:
        """Draw the consequences that do not depend on what the exchange was about.

        Returns what ends the run, to be raised once the outcome's own request is dealt with.
        """
        effect, wait_s = _EFFECTS.get(type(outcome), Effect.ANSWERED), None
        if isinstance(outcome, Throttled):
            wait_s = outcome.wait_s
            self._report_wait(outcome, ended_mono)
        # Admission first: health may wake the submitter, which must find a gate that is closed by now.
        lets_others_start = self._admission.ended(Exchange(started_mono, ended_mono, effect, wait_s))
        end_of_run = self._health.record(outcome, ended_mono)
        if lets_others_start:
            self._on_reopened()
        return end_of_run

    def answered(self, started_mono: float, ended_mono: float) -> None:
        """Note an answer that says nothing of the API as a whole, such as a page of a list."""
        self._health.record_answer(ended_mono)
        if self._admission.ended(Exchange(started_mono, ended_mono, Effect.ANSWERED, None)):
            self._on_reopened()

    def _report_wait(self, outcome: Throttled, now_mono: float) -> None:
        """Inform the user, once, where nothing will move for a while."""
        if outcome.wait_s is None or outcome.wait_s < WORTH_SAYING_S or now_mono < self._waiting_until_mono:
            return
        self._waiting_until_mono = now_mono + outcome.wait_s
        self._say(f"waiting {outcome.wait_s:g} s, as the service asks: {outcome.failure.message}")
