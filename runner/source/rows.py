"""One row of input → one `Request`: which of the four shapes it has, the merge under `request`, the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from runner.records import Request
from runner.source.template import FieldError, Template

RESPONSES_URL: Final = "/v1/responses"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class RowError(Exception):
    """A row cannot become a request; the text says why, the caller says where."""


class Compiler:
    """Turns decoded rows into requests. Holds the config's part of every body.

    The four shapes, told apart by their fields:
    an OpenAI batch line `{"custom_id", "method", "url", "body"}`; a batch item `{"custom_id", "params"}`;
    a request body `{"input", …}`; any other object, through `source.prompt`. With a prompt, a row with
    `input` is a request only where all of its fields are those of a request and the prompt does not use it.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        prompt: Template | None,
        custom_id: Template | None,
        *,
        is_background: bool = True,
    ) -> None:
        self._defaults = dict(request)
        self._prompt = prompt
        self._custom_id = custom_id
        self._is_background = is_background
        """Each request is a background job of its own, and not a part of a batch, which has no such field."""
        # An `input` that the prompt uses is a field of the data, not a request.
        self._input_is_data = prompt is not None and "input" in prompt.fields

    def parse(self, line: bytes) -> dict[str, Any]:
        """Decode one line of JSON. Raises `RowError`."""
        try:
            row = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RowError(f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
        if not isinstance(row, dict):
            raise RowError(f"is not a JSON object but {_kind(row)}")
        return row

    def compile(self, i: int, row: dict[str, Any]) -> Request:
        """The request of row `i`. Raises `RowError`."""
        try:
            custom_id = self._name(i, row)
            body = _merged(self._defaults, self._own_body(i, row))
        except FieldError as error:
            raise RowError(str(error)) from None
        self._check(body)
        metadata = body.get("metadata")
        window = metadata.get("completion_window", "") if isinstance(metadata, dict) else ""
        if self._is_background:
            body["background"] = True
        else:
            body.pop("background", None)
        try:
            encoded = _encode(body)
        except (TypeError, ValueError, RecursionError) as error:
            raise RowError(f"its request cannot be written as JSON: {error}") from None
        return Request(row=i, custom_id=custom_id, body=encoded, kind=f"{body['model']} {window}".rstrip())

    def name(self, i: int, row: dict[str, Any]) -> str:
        """The custom_id of row `i`. Raises `RowError`."""
        try:
            return self._name(i, row)
        except FieldError as error:
            raise RowError(str(error)) from None

    def _name(self, i: int, row: dict[str, Any]) -> str:
        custom_id: Any = (
            self._custom_id.render(i, row) if self._custom_id else row.get("custom_id", f"row-{i}")
        )
        if not isinstance(custom_id, str) or not custom_id:
            raise RowError(f"its custom_id must be a string that is not empty, not {custom_id!r}")
        return custom_id

    def _is_data(self, row: dict[str, Any]) -> bool:
        """Whether a row with `input` is data for the prompt: datasets call a field so, too."""
        return self._prompt is not None and (self._input_is_data or not row.keys() <= REQUEST_FIELDS)

    def _own_body(self, i: int, row: dict[str, Any]) -> dict[str, Any]:
        if "body" in row and ("url" in row or "method" in row):
            return _of_batch_line(row)
        if "params" in row and isinstance(row["params"], dict):
            return row["params"]
        if "input" in row and not self._is_data(row):
            return {key: value for key, value in row.items() if key != "custom_id"}
        if self._prompt is None:
            raise RowError(
                "is neither a batch line (body, url), a batch item (params) nor a request (input), "
                "and source.prompt is not set to make a request of its fields"
            )
        return {"input": self._prompt.render(i, row)}

    def _check(self, body: dict[str, Any]) -> None:
        if not isinstance(body.get("model"), str) or not body["model"]:
            raise RowError("has no model: give it one, or set request.model")
        if body.get("input") in (None, "", []):
            raise RowError("its input is empty")
        if not isinstance(body["input"], str | list | dict):
            raise RowError(f"its input is neither text nor a list of messages but {_kind(body['input'])}")
        if body.get("stream"):
            what = "background job" if self._is_background else "batch"
            raise RowError(f"asks for stream, but a {what} is polled, not streamed")
        if self._is_background and body.get("background", True) is not True:
            raise RowError("asks for background: false, but every request is a background job")


# Of a request in the service's OpenAPI document and in OpenAI's, and the row's own custom_id.
REQUEST_FIELDS: Final = frozenset((
    "background", "conversation", "custom_id", "include", "input", "instructions", "max_output_tokens",
    "max_tool_calls", "metadata", "model", "parallel_tool_calls", "previous_response_id", "prompt",
    "prompt_cache_key", "prompt_cache_retention", "raw_prompt_tokens", "reasoning", "safety_identifier",
    "service_tier", "store", "stream", "stream_options", "temperature", "text", "tool_choice", "tools",
    "top_logprobs", "top_p", "truncation", "user",
))  # fmt: skip


def _of_batch_line(row: dict[str, Any]) -> dict[str, Any]:
    body, url, method = row["body"], row.get("url", RESPONSES_URL), row.get("method", "POST")
    if not isinstance(body, dict):
        raise RowError(f"its body is not an object but {_kind(body)}")
    if method != "POST":
        raise RowError(f"its method is {method!r}; only POST can be sent")
    if not isinstance(url, str) or not url.rstrip("/").endswith("/responses"):
        raise RowError(f"its url is {url!r}; only {RESPONSES_URL} can be sent")
    return body


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `defaults`, mappings merged key by key: a row's metadata adds to the config's."""
    merged = {**defaults, **own}
    for key in defaults.keys() & own.keys():
        if isinstance(defaults[key], dict) and isinstance(own[key], dict):
            merged[key] = _merged(defaults[key], own[key])
    return merged


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")
