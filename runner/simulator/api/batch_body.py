"""What a POST /batches asks for, checked as the service's OpenAPI document says, a slice at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runner.config.simulation import Simulator
from runner.simulator.api.request_body import JobSpec, RequestBodyReader, param_of
from runner.simulator.service.refusals import Refusal
from runner.simulator.service.time_slice import TimeSlice

# `\Z` and not `$`, which would let a line feed through.
_Label = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]+\Z", max_length=128)]
_CustomId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*\Z", max_length=64)]
_SHOWN_AT_MOST = 80


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    endpoint: Literal["/v1/responses"]
    requests: Annotated[list[msgspec.Raw], Meta(min_length=1)]
    label: _Label | UnsetType = UNSET


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: _CustomId
    params: msgspec.Raw


class _Named(msgspec.Struct):
    custom_id: object = None


class BatchRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that was read: its params are let go of."""

    custom_id: str
    sha256: bytes
    """Of the bytes of its params."""
    order: JobSpec


class BatchSpec(msgspec.Struct, frozen=True):
    """A batch that could be created."""

    label: str | None
    items: list[BatchRequest]


class BatchBodyReader:
    """Reads request bodies."""

    def __init__(self, settings: Simulator, orders: RequestBodyReader) -> None:
        self._max_requests = settings.batches.max_requests
        self._names_item = settings.batches.names_item
        self._read_order = orders.read
        self._decode = msgspec.json.Decoder(_Body).decode
        self._decode_request = msgspec.json.Decoder(_Request).decode

    def read(self, body: bytes | bytearray) -> Generator[float, None, BatchSpec]:
        """Works in slices. Raises Refusal (400) naming what is wrong first."""
        decoded = self._body(body)
        del body  # what is not read yet keeps it
        requests = decoded.requests
        if len(requests) > self._max_requests:
            message = f"A batch has at most {self._max_requests} requests, and this one {len(requests)}."
            raise Refusal(400, message, param="requests", code="invalid_value")
        items: list[BatchRequest] = []
        seen: set[str] = set()
        pace = TimeSlice()
        for index, request in enumerate(requests):
            items.append(self._item(index, request, seen))
            if pace.due():
                yield 0.0
                pace.resume()
        return BatchSpec(label=None if decoded.label is UNSET else decoded.label, items=items)

    def _body(self, body: bytes | bytearray) -> _Body:
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise Refusal(400, f"{error}.", param=param_of(str(error)), code="invalid_value") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f"The request body is not valid JSON: {error}."
            raise Refusal(400, message, code="invalid_json") from None

    def _item(self, index: int, raw: msgspec.Raw, seen: set[str]) -> BatchRequest:
        try:
            request = self._decode_request(raw)
            if request.custom_id in seen:
                raise self._wrong(index, raw, "Its custom_id is not unique within the batch.", "custom_id")
            seen.add(request.custom_id)
        except msgspec.ValidationError as error:
            raise self._wrong(index, raw, f"{error}.", param_of(str(error))) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._wrong(index, raw, f"It is not valid JSON: {error}.", None) from None
        try:
            order = self._read_order(request.params, in_batch=True)
        except Refusal as refusal:
            param = "params" if refusal.param is None else f"params.{refusal.param}"
            raise self._wrong(index, raw, refusal.message, param, refusal.code) from None
        return BatchRequest(request.custom_id, hashlib.sha256(request.params).digest(), order)

    def _wrong(
        self, index: int, raw: msgspec.Raw, why: str, param: str | None, code: str | None = "invalid_value"
    ) -> Refusal:
        """The refusal of a batch for one of its requests, named as the settings say."""
        if self._names_item == "none":
            return Refusal(400, f"One of the requests is invalid: {why}", code=code)
        custom_id = _custom_id(raw)
        if self._names_item == "custom_id":
            name = "A request without a custom_id" if custom_id is None else f"custom_id {custom_id}"
            return Refusal(400, f"{name}: {why}", code=code)
        name = f"requests[{index}]"
        who = name if custom_id is None else f"{name} (custom_id {custom_id})"
        return Refusal(400, f"{who}: {why}", param=name if param is None else f"{name}.{param}", code=code)


def _custom_id(raw: msgspec.Raw) -> str | None:
    """As it is shown: quoted and, where it is far too long, shortened; None where there is none."""
    try:
        custom_id = msgspec.json.decode(raw, type=_Named).custom_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return repr(custom_id[:_SHOWN_AT_MOST]) if isinstance(custom_id, str) else None
