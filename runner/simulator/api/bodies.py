"""JSON bodies of replies: response objects, errors, the list of models, the lines of /simulator/jobs."""

from __future__ import annotations

from typing import Final

import msgspec

from runner.config.simulation import Simulator
from runner.simulator.service.answers import answer
from runner.simulator.service.job import JobTerms, SimulatedJob
from runner.simulator.service.refusals import Refusal
from runner.simulator.service.stats import Stats

_encode = msgspec.json.Encoder().encode

_WORDS: Final = {
    "sail": {"waiting": "pending", "running": "running"},
    "openai": {"waiting": "queued", "running": "in_progress"},
}
_SOME_MODELS: Final = ("zai-org/GLM-5", "zai-org/GLM-5.2-FP8")
_MODELS_SINCE: Final = 1_767_225_600


class ResponseWriter:
    """Writes response objects in the vocabulary of the settings."""

    def __init__(self, settings: Simulator) -> None:
        self._words = _WORDS[settings.vocabulary]
        self._cached_share = settings.cached_share
        self._reasoning_share = settings.reasoning_share
        # Sail's API document requires a usage object at all times; OpenAI's is null until the end.
        self._no_usage = "null" if settings.vocabulary == "openai" else _usage(0, 0, 0, 0)

    def write(self, job: SimulatedJob) -> bytes:
        """Return the response object in its current state. The id comes first."""
        terms, status = job.terms, job.status
        usage, output = self._no_usage, "[]"
        error = incomplete = "null"
        if status in ("completed", "incomplete"):
            reasoning = int(terms.output_tokens * self._reasoning_share)
            cached = int(terms.input_tokens * self._cached_share)
            usage = _usage(terms.input_tokens, cached, terms.output_tokens, reasoning)
            output = _output(terms, status, reasoning)
        if status == "failed":
            error = '{"code":"server_error","message":"The model failed to generate a response."}'
        elif status == "expired":
            error = '{"code":"expired","message":"The response was not completed within its window."}'
        elif status == "incomplete":
            incomplete = '{"reason":"max_output_tokens"}'
        return (
            f'{{"id":"{terms.id}","object":"response","created_at":{int(terms.accepted)},'
            f'"status":"{self._words.get(status, status)}","model":{_quoted(terms.model)},'
            f'"output":{output},"usage":{usage},"error":{error},"incomplete_details":{incomplete},'
            f'"metadata":{terms.metadata},{terms.parameters}}}'
        ).encode()


def _quoted(text: str) -> str:
    return _encode(text).decode()


def _usage(input_tokens: int, cached: int, output_tokens: int, reasoning: int) -> str:
    return (
        f'{{"input_tokens":{input_tokens},'
        f'"input_tokens_details":{{"cached_tokens":{cached},"reasoning_tokens":0}},'
        f'"output_tokens":{output_tokens},'
        f'"output_tokens_details":{{"cached_tokens":0,"reasoning_tokens":{reasoning}}},'
        f'"total_tokens":{input_tokens + output_tokens}}}'
    )


def _output(terms: JobTerms, status: str, reasoning: int) -> str:
    name = terms.id.removeprefix("resp_")
    text = answer(terms.prompt, terms.output_tokens - reasoning)
    thought = f'{{"id":"rs_{name}","type":"reasoning","summary":[]}},' if reasoning else ""
    return (
        f'[{thought}{{"id":"msg_{name}","type":"message","status":"{status}","role":"assistant",'
        f'"content":[{{"type":"output_text","text":"{text}","annotations":[]}}]}}]'
    )


def deleted_body(job: SimulatedJob) -> bytes:
    """Return the confirmation that a response was deleted."""
    return f'{{"id":"{job.terms.id}","object":"response","deleted":true}}'.encode()


def error_body(refusal: Refusal) -> bytes:
    """Return the error envelope of a refusal."""
    error = {
        "message": refusal.message,
        "type": refusal.type,
        "param": refusal.param,
        "code": refusal.code,
    }
    return _encode({"error": error})


def models_body(settings: Simulator) -> bytes:
    """Return the list of known models; if every model is known, the vendor's examples."""
    names = settings.models or _SOME_MODELS
    models = [
        {"id": name, "object": "model", "created": _MODELS_SINCE, "owned_by": "simulator"} for name in names
    ]
    return _encode({"object": "list", "data": models})


def stats_body(stats: Stats) -> bytes:
    """Return the stats as JSON."""
    return _encode(stats)


def job_line(job: SimulatedJob) -> bytes:
    """Return the line of /simulator/jobs for a job."""
    terms = job.terms
    line = {
        "id": terms.id,
        "batch": terms.batch,
        "custom_id": terms.custom_id,
        "idempotency_key": terms.key,
        "sha256": terms.sha256.hex(),
        "status": job.status,
        "created_at": terms.accepted,
        "finish_at": job.finish,
        "executed": int(job.started is not None),
        "gets": job.gets,
        "delivered": job.delivered is not None,
        "deleted": job.deleted,
    }
    return _encode(line) + b"\n"
