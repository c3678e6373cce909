"""Specs: what the service keeps of a request body that was checked and found valid."""

from __future__ import annotations

import msgspec


class JobSpec(msgspec.Struct, frozen=True, gc=False):
    """The content of one request: enough to run the job and to write its response, without the prompt."""

    model: str
    parameters: str
    """The parameters that the response repeats, as JSON without the outer braces."""
    metadata: str
    """The request's metadata as JSON."""
    background: bool
    window: str | None
    """The completion window by name, or None."""
    prompt: str
    """The digest of the prompt."""
    input_tokens: int
    max_output_tokens: int | None


class BatchRequest(msgspec.Struct, frozen=True, gc=False):
    """One request of a batch."""

    custom_id: str
    sha256: bytes
    """Digest of the bytes of the request's params."""
    job: JobSpec


class BatchSpec(msgspec.Struct, frozen=True):
    """The content of a batch. `requests` is emptied while the batch is created, to free memory."""

    label: str | None
    requests: list[BatchRequest]
