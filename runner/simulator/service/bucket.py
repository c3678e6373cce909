"""A token bucket: `per_s` tokens a second, of which at most `burst` are saved up."""

from __future__ import annotations

from runner.config.simulation import RateLimit


class Bucket:
    """Tokens of one rate limit, in the time of its caller. Starts full."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._per_s = limit.per_s
        self._burst = float(limit.burst)
        self._tokens = self._burst
        self._filled = now

    def take(self, now: float) -> float:
        """Take a token and return 0; or, if there is none, return the seconds until the next one."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._per_s)
        self._filled = now
        # The tolerance covers rounding: a client that waited as long as it was asked to must get its token.
        if self._tokens >= 1 - 1e-9:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_s
