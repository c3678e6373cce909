"""What a POST /responses asks for, checked as the service's OpenAPI document says."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runner.config.simulation import Simulator
from runner.simulator.service.answers import Prompt, prompt_digest, prompt_text
from runner.simulator.service.refusals import Refusal

_INTERNED_AT_MOST = 4096
_TOO_SOON = {"background": ("asap",), "batch": ("asap", "priority")}
"""Windows that cannot be asked for in a mode."""
_PLACE = re.compile(r" at `\$\.?([^`]*)`")
_FIELD = re.compile(r" field `([^`]*)`")


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema", omit_defaults=True):
    name: str
    description: str = ""
    schema: dict[str, Any] | UnsetType = UNSET
    strict: bool = False


class TextConfiguration(msgspec.Struct):
    format: TextFormat | JsonSchemaFormat


class Reasoning(msgspec.Struct):
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
    reasoning: Reasoning | UnsetType = UNSET
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
    reasoning: Reasoning
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    background: bool
    store: bool
    truncation: str
    user: str | None


_PLAIN_TEXT = TextConfiguration(TextFormat())
_NO_REASONING = Reasoning()


class JobSpec(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a request: enough to run it and to write its response, and not the prompt."""

    model: str
    parameters: str
    """JSON of what is echoed, without its braces."""
    metadata: str
    """JSON."""
    background: bool
    window: str | None
    prompt: str
    """The digest of the prompt."""
    input_tokens: int
    max_output_tokens: int | None


class RequestBodyReader:
    """Reads request bodies. Owns the strings that many orders share."""

    def __init__(self, settings: Simulator) -> None:
        self._windows = settings.windows
        self._models = frozenset(settings.models)
        self._decode = msgspec.json.Decoder(_Body).decode
        self._encode = msgspec.json.Encoder().encode
        self._shared: dict[str, str] = {}

    def read(self, body: bytes | bytearray, *, in_batch: bool = False) -> JobSpec:
        """Raises Refusal (400) naming what is wrong."""
        try:
            request = self._decode(body)
        except msgspec.ValidationError as error:
            raise Refusal(400, f"{error}.", param=param_of(str(error)), code="invalid_value") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f"The request body is not valid JSON: {error}."
            raise Refusal(400, message, code="invalid_json") from None
        self._check(request, in_batch)
        text = prompt_text(request.input)
        if request.raw_prompt_tokens is not UNSET:
            text = " ".join(map(str, request.raw_prompt_tokens))
        return JobSpec(
            model=self._share(request.model),
            parameters=self._share(self._echo(request)),
            metadata=self._share(self._encode(request.metadata).decode()) if request.metadata else "{}",
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

    def _share(self, text: str) -> str:
        # A million jobs of one run repeat a handful of these; the bound is for a run where all differ.
        if len(self._shared) >= _INTERNED_AT_MOST:
            self._shared.clear()
        return self._shared.setdefault(text, text)


def param_of(message: str) -> str | None:
    """The path of what is wrong, from msgspec's message: `… field `a` - at `$.b`` is about b.a."""
    place, field = _PLACE.search(message), _FIELD.search(message)
    return ".".join(found[1] for found in (place, field) if found and found[1]) or None
