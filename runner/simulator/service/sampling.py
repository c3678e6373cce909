"""Draws for a job when it is accepted: its id, outcome, duration and the length of its answer."""

from __future__ import annotations

from collections.abc import Container

from runner.config.simulation import Simulator
from runner.simulator.service.answers import answer_words
from runner.simulator.service.job import JobOutcome, JobTerms
from runner.simulator.service.latency import latency_s
from runner.simulator.service.seeded import Draws
from runner.simulator.service.spec import JobSpec

_OUTCOME = 2  # which of a job's draws decides its outcome; 0 and 1 belong to the latency


class JobSampler:
    """Draws for jobs and batches, as a function of the seed, the body and how often that body came before."""

    def __init__(self, settings: Simulator) -> None:
        self._settings = settings
        self._occurrences: dict[bytes, int] = {}

    def count(self, sha256: bytes) -> None:
        """Count one more acceptance of the body with this digest."""
        self._occurrences[sha256] = self._occurrences.get(sha256, 0) + 1

    def batch_id(self, sha256: bytes, taken: Container[str]) -> str:
        """Return the id of a new batch, by the digest of its body."""
        return self._id_and_draws(b"batch", sha256, taken, "batch")[0]

    def terms(
        self,
        spec: JobSpec,
        sha256: bytes,
        scope: str,
        now: float,
        taken: Container[str],
        *,
        key: str | None = None,
        batch: str | None = None,
        custom_id: str | None = None,
    ) -> JobTerms:
        """Return the terms of a new job. `taken` are the ids that exist already."""
        settings = self._settings
        job_id, draws = self._id_and_draws(b"job", sha256, taken, "resp")
        factor = 1.0 if spec.window is None else settings.windows[spec.window]
        outcome = self._outcome(draws.unit(_OUTCOME))
        words = answer_words(spec.prompt, settings.output_tokens, spec.max_output_tokens)
        return JobTerms(
            id=job_id,
            key=key,
            scope=scope,
            sha256=sha256,
            model=spec.model,
            parameters=spec.parameters,
            metadata=spec.metadata,
            background=spec.background,
            prompt=spec.prompt,
            input_tokens=spec.input_tokens,
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
            nth += 1  # the count is too low after a restart if a batch with this body could not be stored

    def _outcome(self, unit: float) -> JobOutcome:
        for outcome, share in self._settings.outcomes.items():
            if unit < share:
                return outcome
            unit -= share
        return "completed"
