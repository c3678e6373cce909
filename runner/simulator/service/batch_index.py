"""The batches of the service, found by id and listed in the order of their creation."""

from __future__ import annotations

from runner.simulator.service.batch import BatchTerms, SimulatedBatch
from runner.simulator.service.job import SimulatedJob
from runner.simulator.service.refusals import Refusal, not_found


class BatchIndex:
    """All batches. Each is visible only with the API key that created it."""

    def __init__(self) -> None:
        self._by_id: dict[str, SimulatedBatch] = {}
        self._by_scope: dict[str, list[SimulatedBatch]] = {}

    def __contains__(self, batch_id: object) -> bool:
        return batch_id in self._by_id

    def add(self, terms: BatchTerms, jobs: dict[str, SimulatedJob]) -> SimulatedBatch:
        """Add a new batch with its jobs, and return it."""
        batches = self._by_scope.setdefault(terms.scope, [])
        batch = SimulatedBatch(terms, jobs, len(batches))
        batches.append(batch)
        self._by_id[terms.id] = batch
        return batch

    def find(self, batch_id: str, scope: str) -> SimulatedBatch:
        """Return a batch by its id. Raises Refusal (404)."""
        batch = self._by_id.get(batch_id)
        if batch is None or batch.terms.scope != scope:
            raise not_found(f"Batch {batch_id[:200]!r}")
        return batch

    def page(
        self, scope: str, after_id: str | None, before_id: str | None, limit: int
    ) -> list[SimulatedBatch]:
        """Return the newest `limit` batches created between two others, the newest first.

        With both ids a client can walk back from the newest to where it stopped. Raises Refusal (400).
        """
        batches = self._by_scope.get(scope, [])
        start, end = 0, len(batches)
        if after_id is not None:
            start = self._cursor(after_id, scope, "after_id").position + 1
        if before_id is not None:
            end = self._cursor(before_id, scope, "before_id").position
        return batches[max(start, end - limit) : end][::-1]

    def _cursor(self, batch_id: str, scope: str, param: str) -> SimulatedBatch:
        try:
            return self.find(batch_id, scope)
        except Refusal as unknown:
            raise Refusal(400, unknown.message, param=param, code="invalid_value") from None
