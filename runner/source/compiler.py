"""The fields of a row → one `Request`: its shape, its merge under the config's `request`, its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from runner.records import Request
from runner.source.row import RowError, kind_of
from runner.source.template import FieldError, Template

RESPONSES_URL: Final = "/v1/responses"
_INPUT_TYPES: Final = (str, list, dict)
"""What `input` may be; a tuple, because a union is built at each use."""
_encode = msgspec.json.Encoder().encode


class Compiler:
    """Turns the fields of rows into requests. Holds the config's part of every body.

    A row has one of four shapes, which its fields tell apart: an OpenAI batch line
    `{"custom_id", "method", "url", "body"}`; a batch item `{"custom_id", "params"}`; a request body
    `{"input", …}`; any other object, which `source.prompt` turns into a request. If there is a prompt, a row
    with `input` is a request only if all of its fields are those of a request and the prompt does not use
    `input`.
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
        """Whether each request is a background job. A request in a batch has no such field."""
        # An `input` that the prompt uses is a field of the data, not a request.
        self._input_is_data = prompt is not None and "input" in prompt.fields

    def compile(self, i: int, fields: dict[str, Any]) -> Request:
        """Return the request of row `i`. Raises `RowError`."""
        try:
            custom_id = self._name(i, fields)
            body = _merged(self._defaults, self._own_body(i, fields))
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

    def name(self, i: int, fields: dict[str, Any]) -> str:
        """Return the custom_id of row `i`. Raises `RowError`."""
        try:
            return self._name(i, fields)
        except FieldError as error:
            raise RowError(str(error)) from None

    def _name(self, i: int, fields: dict[str, Any]) -> str:
        custom_id: Any = (
            self._custom_id.render(i, fields) if self._custom_id else fields.get("custom_id", f"row-{i}")
        )
        if not isinstance(custom_id, str) or not custom_id:
            raise RowError(f"its custom_id must be a non-empty string, not {custom_id!r}")
        return custom_id

    def _is_data(self, fields: dict[str, Any]) -> bool:
        """Return whether a row with `input` is data for the prompt: some datasets have a field `input`."""
        return self._prompt is not None and (self._input_is_data or not fields.keys() <= REQUEST_FIELDS)

    def _own_body(self, i: int, fields: dict[str, Any]) -> dict[str, Any]:
        if "body" in fields and ("url" in fields or "method" in fields):
            return _of_batch_line(fields)
        if "params" in fields and isinstance(fields["params"], dict):
            return fields["params"]
        if "input" in fields and not self._is_data(fields):
            return {key: value for key, value in fields.items() if key != "custom_id"}
        if self._prompt is None:
            raise RowError(
                "is not a batch line (body, url), a batch item (params) or a request (input); "
                "to make requests of other rows, set source.prompt"
            )
        return {"input": self._prompt.render(i, fields)}

    def _check(self, body: dict[str, Any]) -> None:
        if not isinstance(body.get("model"), str) or not body["model"]:
            raise RowError("has no model: add one, or set request.model")
        if body.get("input") in (None, "", []):
            raise RowError("its input is empty")
        if not isinstance(body["input"], _INPUT_TYPES):
            raise RowError(f"its input must be text or a list of messages, not {kind_of(body['input'])}")
        if body.get("stream"):
            what = "background job" if self._is_background else "batch"
            raise RowError(f"asks for stream, but a {what} is polled, not streamed")
        if self._is_background and body.get("background", True) is not True:
            raise RowError("asks for background: false, but every request is a background job")


REQUEST_FIELDS: Final = frozenset((
    "background", "conversation", "custom_id", "include", "input", "instructions", "max_output_tokens",
    "max_tool_calls", "metadata", "model", "parallel_tool_calls", "previous_response_id", "prompt",
    "prompt_cache_key", "prompt_cache_retention", "raw_prompt_tokens", "reasoning", "safety_identifier",
    "service_tier", "store", "stream", "stream_options", "temperature", "text", "tool_choice", "tools",
    "top_logprobs", "top_p", "truncation", "user",
))  # fmt: skip
"""Fields of a request in the OpenAPI documents of the service and of OpenAI, and the row's own custom_id."""


def _of_batch_line(fields: dict[str, Any]) -> dict[str, Any]:
    body, url, method = fields["body"], fields.get("url", RESPONSES_URL), fields.get("method", "POST")
    if not isinstance(body, dict):
        raise RowError(f"its body must be an object, not {kind_of(body)}")
    if method != "POST":
        raise RowError(f"its method is {method!r}; only POST can be sent")
    if not isinstance(url, str) or not url.rstrip("/").endswith("/responses"):
        raise RowError(f"its url is {url!r}; only {RESPONSES_URL} can be sent")
    return body


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `own` over `defaults`, merged key by key: a row's metadata adds to the config's."""
    merged = {**defaults, **own}
    for key in defaults.keys() & own.keys():
        if isinstance(defaults[key], dict) and isinstance(own[key], dict):
            merged[key] = _merged(defaults[key], own[key])
    return merged
