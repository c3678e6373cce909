"""The body of POST /responses, checked as the service's OpenAPI document requires."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runner.config.simulation import Simulator
from runner.simulator.api.decoding import decode
from runner.simulator.service.answers import Prompt, prompt_digest, prompt_text
from runner.simulator.service.interner import Interner
from runner.simulator.service.refusals import Refusal
from runner.simulator.service.spec import JobSpec

_TOO_SOON = {"background": ("asap",), "batch": ("asap", "priority")}
"""Completion windows that a mode does not support."""


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    """Plain text."""


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema", omit_defaults=True):
    """JSON that fits a schema."""

    name: str
    description: str = ""
    schema: dict[str, Any] | UnsetType = UNSET
    strict: bool = False


class TextConfiguration(msgspec.Struct):
    """The parameter `text`."""

    format: TextFormat | JsonSchemaFormat


class ReasoningOptions(msgspec.Struct):
    """The parameter `reasoning`."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | UnsetType = UNSET
    generate_summary: Literal["auto", "concise", "detailed"] | UnsetType = UNSET


class _Body(msgspec.Struct):
    model: str
    input: Prompt
    raw_prompt_tokens: (
        Annotated[list[Annotated[int, Meta(ge=0, le=2_147_483_647)]], Meta(min_length=1)] | UnsetType
    ) = UNSET
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    text: TextConfiguration | UnsetType = UNSET
    reasoning: ReasoningOptions | UnsetType = UNSET
    instructions: str = ""
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    include: list[str] = []
    background: bool = False
    prompt_cache_key: str = ""
    store: bool = True
    truncation: Literal["disabled"] = "disabled"
    stream: bool = False
    user: Annotated[str, Meta(max_length=256)] | None = None
    metadata: dict[str, str] = {}


class _Echo(msgspec.Struct):
    """The parameters that every response object repeats."""

    max_output_tokens: int | None
    temperature: float
    top_p: float
    text: TextConfiguration
    reasoning: ReasoningOptions
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    background: bool
    store: bool
    truncation: str
    user: str | None


_PLAIN_TEXT = TextConfiguration(TextFormat())
_NO_REASONING = ReasoningOptions()


class RequestBodyReader:
    """Reads the bodies of single requests and the params of those in batches."""

    def __init__(self, settings: Simulator) -> None:
        self._windows = settings.windows
        self._models = frozenset(settings.models)
        self._decode = msgspec.json.Decoder(_Body).decode
        self._encode = msgspec.json.Encoder().encode
        self._intern = Interner().intern

    def read(self, body: bytes | bytearray, *, in_batch: bool = False) -> JobSpec:
        """Return the spec of the job that a body asks for. Raises Refusal (400)."""
        request = decode(self._decode, body)
        self._check(request, in_batch)
        text = prompt_text(request.input)
        if request.raw_prompt_tokens is not UNSET:
            text = " ".join(map(str, request.raw_prompt_tokens))
        return JobSpec(
            model=self._intern(request.model),
            parameters=self._intern(self._echo(request)),
            metadata=self._intern(self._encode(request.metadata).decode()) if request.metadata else "{}",
            background=request.background,
            window=request.metadata.get("completion_window"),
            prompt=prompt_digest(text),
            input_tokens=len(text.split()) + len(request.instructions.split()),
            max_output_tokens=request.max_output_tokens,
        )

    def _check(self, request: _Body, in_batch: bool) -> None:
        if self._models and request.model not in self._models:
            message = f"The model {request.model!r} does not exist."
            raise Refusal(400, message, param="model", code="model_not_found")
        if request.stream:
            why = "a background response" if request.background else "any response of this simulator"
            why = "a request of a batch" if in_batch else why
            raise Refusal(400, f"stream cannot be used with {why}.", param="stream", code="unsupported_value")
        if request.background and in_batch:
            message = "background cannot be used with a request of a batch."
            raise Refusal(400, message, param="background", code="unsupported_value")
        window = request.metadata.get("completion_window")
        if window is not None:
            self._check_window(window, "batch" if in_batch else "background" if request.background else "")

    def _check_window(self, window: str, mode: str) -> None:
        known = [name for name in self._windows if name not in _TOO_SOON.get(mode, ())]
        if window not in known:
            why = f"is not supported with {mode}" if window in self._windows else "is not known"
            raise Refusal(
                400,
                f"completion_window {window!r} {why}; use one of: {', '.join(known) or '(none)'}.",
                param="metadata.completion_window",
                code="unsupported_value",
            )

    def _echo(self, request: _Body) -> str:
        echo = _Echo(
            max_output_tokens=request.max_output_tokens,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            text=_PLAIN_TEXT if request.text is UNSET else request.text,
            reasoning=_NO_REASONING if request.reasoning is UNSET else request.reasoning,
            tools=request.tools,
            tool_choice=request.tool_choice,
            parallel_tool_calls=request.parallel_tool_calls,
            background=request.background,
            store=request.store,
            truncation=request.truncation,
            user=request.user,
        )
        return self._encode(echo)[1:-1].decode()
