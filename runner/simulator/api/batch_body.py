"""The body of POST /batches, checked as the service's OpenAPI document requires, one slice at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runner.config.simulation import Simulator
from runner.simulator.api.decoding import decode
from runner.simulator.api.request_body import RequestBodyReader
from runner.simulator.service.refusals import Refusal
from runner.simulator.service.spec import BatchRequest, BatchSpec
from runner.simulator.service.time_slice import TimeSlice

# `\Z` instead of `$`, which allows a line feed at the end.
_Label = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]+\Z", max_length=128)]
_CustomId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*\Z", max_length=64)]
_SHOWN_AT_MOST: Final = 80


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    endpoint: Literal["/v1/responses"]
    requests: Annotated[list[msgspec.Raw], Meta(min_length=1)]
    label: _Label | UnsetType = UNSET


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: _CustomId
    params: msgspec.Raw


class _Named(msgspec.Struct):
    custom_id: object = None


class BatchBodyReader:
    """Reads the bodies of batches."""

    def __init__(self, settings: Simulator, requests: RequestBodyReader) -> None:
        self._max_requests = settings.batches.max_requests
        self._names_item = settings.batches.names_item
        self._read_params = requests.read
        self._decode = msgspec.json.Decoder(_Body).decode
        self._decode_request = msgspec.json.Decoder(_Request).decode

    def read(self, body: bytes | bytearray) -> Generator[float, None, BatchSpec]:
        """Return the spec of the batch that a body asks for; yields seconds to rest (0) between slices.

        Raises Refusal (400) that names the first request that is wrong.
        """
        decoded = decode(self._decode, body)
        del body  # the requests that are not read yet keep it in memory, this name must not
        requests = decoded.requests
        if len(requests) > self._max_requests:
            message = f"A batch may have at most {self._max_requests} requests; this one has {len(requests)}."
            raise Refusal(400, message, param="requests", code="invalid_value")
        read: list[BatchRequest] = []
        seen: set[str] = set()
        time_slice = TimeSlice()
        for index, raw in enumerate(requests):
            try:
                read.append(self._request(raw, seen))
            except Refusal as refusal:
                raise self._named(refusal, index, raw) from None
            if time_slice.is_over():
                yield 0.0
                time_slice.restart()
        return BatchSpec(label=None if decoded.label is UNSET else decoded.label, requests=read)

    def _request(self, raw: msgspec.Raw, seen: set[str]) -> BatchRequest:
        request = decode(self._decode_request, raw)
        if request.custom_id in seen:
            message = "custom_id is not unique within the batch."
            raise Refusal(400, message, param="custom_id", code="invalid_value")
        seen.add(request.custom_id)
        try:
            job = self._read_params(request.params, in_batch=True)
        except Refusal as refusal:
            refusal.param = "params" if refusal.param is None else f"params.{refusal.param}"
            raise
        return BatchRequest(request.custom_id, hashlib.sha256(request.params).digest(), job)

    def _named(self, refusal: Refusal, index: int, raw: msgspec.Raw) -> Refusal:
        """Return the refusal of the batch for one of its requests, named as the settings say."""
        why, code = refusal.message, refusal.code
        if self._names_item == "none":
            return Refusal(400, f"One of the requests is invalid: {why}", code=code)
        custom_id = _custom_id(raw)
        if self._names_item == "custom_id":
            name = "A request without a custom_id" if custom_id is None else f"custom_id {custom_id}"
            return Refusal(400, f"{name}: {why}", code=code)
        name = f"requests[{index}]"
        full_name = name if custom_id is None else f"{name} (custom_id {custom_id})"
        param = name if refusal.param is None else f"{name}.{refusal.param}"
        return Refusal(400, f"{full_name}: {why}", param=param, code=code)


def _custom_id(raw: msgspec.Raw) -> str | None:
    """Return a request's custom_id quoted and shortened for a message, or None if it has none."""
    try:
        custom_id = msgspec.json.decode(raw, type=_Named).custom_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return repr(custom_id[:_SHOWN_AT_MOST]) if isinstance(custom_id, str) else None
