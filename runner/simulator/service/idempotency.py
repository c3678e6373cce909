"""Idempotency keys: which job or batch each key of each API key created."""

from __future__ import annotations

from typing import Final

from runner.simulator.service.batch import SimulatedBatch
from runner.simulator.service.job import SimulatedJob
from runner.simulator.service.refusals import key_conflict

_KEPT_S: Final = 86_400.0


class IdempotencyKeys:
    """The keys of the last 24 hours. A key belongs to the API key that sent it."""

    def __init__(self) -> None:
        self._by_scope: dict[str, dict[str, SimulatedJob | SimulatedBatch]] = {}

    def remember(self, created: SimulatedJob | SimulatedBatch) -> None:
        """Record the key that created a job or batch, if it came with one."""
        terms = created.terms
        if terms.key is not None:
            self._by_scope.setdefault(terms.scope, {})[terms.key] = created

    def job(self, key: str | None, scope: str, sha256: bytes, now: float) -> SimulatedJob | None:
        """Return the job created with this key, or None. Raises Refusal if the key was used otherwise."""
        known = self._find(key, scope, sha256, now)
        if isinstance(known, SimulatedBatch):
            raise key_conflict()
        return known

    def batch(self, key: str | None, scope: str, sha256: bytes, now: float) -> SimulatedBatch | None:
        """Return the batch created with this key, or None. Raises Refusal if the key was used otherwise."""
        known = self._find(key, scope, sha256, now)
        if isinstance(known, SimulatedJob):
            raise key_conflict()
        return known

    def _find(
        self, key: str | None, scope: str, sha256: bytes, now: float
    ) -> SimulatedJob | SimulatedBatch | None:
        known = None if key is None else self._by_scope.get(scope, {}).get(key)
        if known is None or now - known.terms.accepted >= _KEPT_S:
            return None
        if known.terms.sha256 != sha256:
            raise key_conflict()
        return known
