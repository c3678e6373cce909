"""A token bucket: `per_s` tokens a second, at most `burst` of them saved up."""

from __future__ import annotations

from runner.config.simulation import RateLimit


class Bucket:
    def __init__(self, limit: RateLimit, now: float) -> None:
        self._per_s = limit.per_s
        self._burst = float(limit.burst)
        self._tokens = self._burst
        self._filled = now

    def take(self, now: float) -> float:
        """Takes a token and returns 0, or takes none and returns the seconds until there is one."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._per_s)
        self._filled = now
        # A hair below one is one: the wait that was announced must be enough in spite of rounding.
        if self._tokens >= 1 - 1e-9:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_s
