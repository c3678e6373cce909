"""Admission: whether one more exchange of a sort may start, and when, by a list of rules.

A sort of exchange is what shares one limit: POSTs of requests, polls, uploads of batches, cancellations.
Times are seconds of one monotonic clock, which the caller reads and hands in.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Protocol

import msgspec


class Effect(Enum):
    """What an exchange showed of the service as a whole, whatever it meant for its own request."""

    ANSWERED = "answered"
    """The service dealt with the request: it was accepted, done, rejected or not found."""
    THROTTLED = "throttled"
    """The service asked for fewer requests or for a pause."""
    FAILED = "failed"
    """No answer, or none that shows a working service: a broken connection, a timeout, a 5xx."""
    UNAUTHORISED = "unauthorised"
    """The service refused the API key or its account."""


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """One exchange that has ended."""

    started_mono: float
    ended_mono: float
    effect: Effect
    wait_s: float | None
    """Wait that a throttled answer asks for, in seconds; None if it names none."""


class Rule(Protocol):
    """One reason to hold exchanges back.

    Each exchange that starts is reported to `started`, and later to exactly one of `dropped` and `ended`.
    """

    def opens_at(self, now_mono: float) -> float:
        """Return the time from which one more exchange may start.

        `-inf`, or any time that is not after `now_mono`, means at once. `inf` means only after another
        exchange has ended.
        """

    def started(self, now_mono: float) -> None:
        """Record that an exchange starts."""

    def dropped(self) -> None:
        """Record that an exchange which was started turned out not to be needed, and was not made."""

    def ended(self, exchange: Exchange) -> bool:
        """Record an exchange, and return whether others may start because of it.

        True means that waiting workers should ask `opens_at` again now, not when they had planned to.
        """


class Admission:
    """Decides when one more exchange of a sort may start: as soon as every one of its rules allows it."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def __repr__(self) -> str:
        return f"<Admission {', '.join(map(repr, self.rules)) or 'without rules'}>"

    def opens_at(self, now_mono: float) -> float:
        """Return the time from which every rule allows one more exchange."""
        latest = -math.inf
        for rule in self.rules:
            opens_at = rule.opens_at(now_mono)
            if opens_at > latest:
                latest = opens_at
        return latest

    def started(self, now_mono: float) -> None:
        """Record in every rule that an exchange starts."""
        for rule in self.rules:
            rule.started(now_mono)

    def dropped(self) -> None:
        """Record in every rule that an exchange which was started was not made."""
        for rule in self.rules:
            rule.dropped()

    def ended(self, exchange: Exchange) -> bool:
        """Record an exchange in every rule, and return whether others may start because of it."""
        lets_others_start = False
        for rule in self.rules:
            if rule.ended(exchange):
                lets_others_start = True
        return lets_others_start
