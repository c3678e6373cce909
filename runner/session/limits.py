"""What ends a run early by the results on record: its budget, and too many failures."""

from __future__ import annotations

from runner.config import RunConfig
from runner.errors import LimitReached, Problem
from runner.measure.meter import Meter
from runner.measure.summary import cost_usd
from runner.policy.budget import Budget


class LimitCheck:
    """Limits on cost and failures; asked before each fresh row and after each result."""

    def __init__(self, config: RunConfig, meter: Meter) -> None:
        section = config.limits
        self._prices = config.prices
        self._max_failures = section.max_failures
        self._budget = None if section.max_cost_usd is None else Budget(section.max_cost_usd)
        self._meter = meter

    def allow_another(self, in_flight: int) -> bool:
        """Return whether one more row may be sent, with `in_flight` sent and not done."""
        return self._budget is None or self._fits(self._budget, in_flight)

    def reached(self) -> LimitReached | None:
        """Return what ends the run, if anything does."""
        if self._max_failures is not None and (failures := self._meter.not_completed) >= self._max_failures:
            what = f"{failures:,} requests did not end completed"
            hint = "raise it, or retry them with --retry, and continue"
            return LimitReached(Problem(what, f"limits.max_failures {self._max_failures:,}", hint))
        if self._budget is not None and not self._fits(self._budget, 0):
            what = f"cost limit reached: ${self._spent_usd:,.4f} of ${self._budget.max_usd:g} spent"
            if self._spent_usd < self._budget.max_usd:
                what += ", and one more request would exceed it"
            return LimitReached(
                Problem(what, f"limits.max_cost_usd {self._budget.max_usd:g}", "raise it to continue")
            )
        return None

    def _fits(self, budget: Budget, in_flight: int) -> bool:
        meter = self._meter
        return budget.allows(self._spent_usd, meter.done + meter.counts.superseded, in_flight)

    @property
    def _spent_usd(self) -> float:
        return cost_usd(self._meter.tokens, self._prices) or 0.0
