"""What is drawn for a job when it is accepted: its id, its outcome, how long it runs and how much it says."""

from __future__ import annotations

from collections.abc import Container

from runner.config.simulation import Simulator
from runner.simulator.api.request_body import JobSpec
from runner.simulator.service.answers import answer_words
from runner.simulator.service.job import JobOutcome, JobTerms
from runner.simulator.service.latency import latency_s
from runner.simulator.service.seeded import Draws

_OUTCOME = 2  # the number of a job's draws that decides how it ends; 0 and 1 belong to the latency


class JobSampler:
    """Owns how often each body has come: the draws are a function of that, the body and the seed."""

    def __init__(self, settings: Simulator) -> None:
        self._settings = settings
        self._occurrences: dict[bytes, int] = {}

    def count(self, sha256: bytes) -> None:
        """A body with this digest was accepted."""
        self._occurrences[sha256] = self._occurrences.get(sha256, 0) + 1

    def batch_id(self, sha256: bytes, taken: Container[str]) -> str:
        """For a body of POST /batches."""
        return self._id_and_draws(b"batch", sha256, taken, "batch")[0]

    def terms(
        self,
        order: JobSpec,
        sha256: bytes,
        scope: str,
        now: float,
        taken: Container[str],
        *,
        key: str | None = None,
        batch: str | None = None,
        custom_id: str | None = None,
    ) -> JobTerms:
        settings = self._settings
        job_id, draws = self._id_and_draws(b"job", sha256, taken, "resp")
        factor = 1.0 if order.window is None else settings.windows[order.window]
        outcome = self._outcome(draws.unit(_OUTCOME))
        words = answer_words(order.prompt, settings.output_tokens, order.max_output_tokens)
        return JobTerms(
            id=job_id,
            key=key,
            scope=scope,
            sha256=sha256,
            model=order.model,
            parameters=order.parameters,
            metadata=order.metadata,
            background=order.background,
            prompt=order.prompt,
            input_tokens=order.input_tokens,
            output_tokens=max(1, words // 2) if outcome == "incomplete" else words,
            outcome=outcome,
            accepted=now,
            duration_s=latency_s(settings.latency, draws) * factor,
            batch=batch,
            custom_id=custom_id,
        )

    def _id_and_draws(
        self, kind: bytes, sha256: bytes, taken: Container[str], prefix: str
    ) -> tuple[str, Draws]:
        nth = self._occurrences.get(sha256, 0)
        while True:
            draws = Draws(self._settings.seed, kind, sha256, nth)
            name = f"{prefix}_{draws.hex()}"
            if name not in taken:
                return name, draws
            nth += 1  # a count that was lost with a restart: of a batch that could not be stored

    def _outcome(self, unit: float) -> JobOutcome:
        for outcome, share in self._settings.outcomes.items():
            if unit < share:
                return outcome
            unit -= share
        return "completed"
