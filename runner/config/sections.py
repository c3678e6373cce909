"""The config file as frozen models, one class a section. Defaults here are the defaults of the tool."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]

EMBEDDED = "simulator"
"""`target.base_url: simulator` starts the simulator with the run and stops it with the run."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Target(Section):
    """Where requests go, and how."""

    base_url: str = "https://api.sailresearch.com/v1"
    """The API's root, to which `/responses` is appended; or `simulator`."""
    api_key_env: str = Field("SAIL_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name of the environment variable that holds the key; never the key."""
    mode: Literal["background"] = "background"
    """`background`: one POST a request, then polling."""
    transport: Literal["aiohttp", "openai"] = "aiohttp"
    """`aiohttp`: direct, fastest. `openai`: the SDK on its aiohttp client."""
    timeout_s: Seconds = 30.0
    """One HTTP exchange, whole."""
    idempotency_header: str | None = Field("Idempotency-Key", pattern=r"^[A-Za-z0-9-]+$")
    """The header that makes a repeated POST safe; null for a service without one."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if url == EMBEDDED:
            return url
        try:
            address = urlsplit(url)
            port_is_good = address.port is None or address.port > 0
        except ValueError:
            port_is_good = False
        if not port_is_good or address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("must be an http:// or https:// address, or the word simulator")
        if "@" in address.netloc:
            raise ValueError("must not hold a user name or password: name the key in target.api_key_env")
        if "?" in url or "#" in url:
            raise ValueError("must not hold a query or a fragment")
        return url.rstrip("/")


class Source(Section):
    """Where rows come from."""

    type: Literal["synthetic", "jsonl"] = "synthetic"
    count: Count | None = None
    """`synthetic` only: how many rows; 100 where not given."""
    path: str | None = None
    """`jsonl` only: a file or a glob, relative to the current directory."""
    prompt: str | None = None
    """A Jinja template over the row's fields and `i`; `synthetic` has a default."""
    custom_id: str | None = None
    """A Jinja template; the default is the row's own custom_id, else row-<i>."""

    @model_validator(mode="after")
    def _belongs_together(self) -> Source:
        if self.type == "synthetic" and self.path is not None:
            raise ValueError("path goes with type: jsonl")
        if self.type == "jsonl" and self.path is None:
            raise ValueError("type: jsonl needs path, a file or a glob")
        if self.type == "jsonl" and self.count is not None:
            raise ValueError("count goes with type: synthetic; to send fewer rows use --limit")
        return self


class Retry(Section):
    """How a failed POST is tried again: capped exponential backoff with full jitter."""

    max_attempts: Count = 8
    base_s: Seconds = 0.5
    cap_s: Seconds = 60.0


class Submit(Section):
    """How requests are sent."""

    concurrency: Count = 200
    """POSTs in flight at once: the semaphore."""
    max_in_flight: Count = 20_000
    """Accepted jobs not yet done, POSTs in flight included."""
    retry: Retry = Retry()


class Poll(Section):
    """How jobs are followed."""

    concurrency: Count = 200
    """GETs in flight at once."""
    strategy: Literal["adaptive", "exponential", "fixed"] = "adaptive"
    interval_s: Seconds = 1.0
    """`fixed`: the interval. `exponential`, and `adaptive` until it has learned: the first."""
    factor: float = Field(1.5, ge=1)
    max_interval_s: Seconds = 30.0
    """The longest interval of `exponential`, and of `adaptive` until it has learned."""
    max_rate: float | None = Field(None, gt=0)
    """GETs per second, at most."""
    deadline_s: Seconds = 86_400.0
    """Give up on one job this long after it was accepted."""


class Sink(Section):
    """Where results go."""

    dir: str = "runs"
    """The run directory is <dir>/<name>."""
    on_existing: Literal["resume", "new", "fail"] = "resume"
    fsync_s: Seconds = 1.0
    """A received result is on disk at most this much later."""
    store: Literal["full", "text"] = "full"
    """`full`: the response object as received. `text`: only id, status, model, text, usage and error."""


class Limits(Section):
    """When to stop."""

    drain_s: float = Field(30.0, ge=0)
    """After a first Ctrl-C: how long open jobs are still polled."""


class Prices(Section):
    """USD per million tokens."""

    input: float = Field(0.0, ge=0)
    cached: float | None = Field(None, ge=0)
    """Input tokens served from a cache; as `input` where not given."""
    output: float = Field(0.0, ge=0)


class Constant(Section):
    type: Literal["constant"]
    mean_s: float = Field(ge=0)


class Exponential(Section):
    type: Literal["exponential"]
    mean_s: Seconds


class Lognormal(Section):
    type: Literal["lognormal"]
    mean_s: Seconds
    sigma: float = Field(0.5, ge=0, le=5)


class Uniform(Section):
    type: Literal["uniform"]
    min_s: float = Field(ge=0)
    max_s: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.max_s < self.min_s:
            raise ValueError("max_s must not be below min_s")
        return self


class Bimodal(Section):
    """A share of slow jobs among fast ones, each lognormal around its mean."""

    type: Literal["bimodal"]
    fast_s: Seconds
    slow_s: Seconds
    slow_share: Share = 0.2
    sigma: float = Field(0.2, ge=0, le=5)


Latency = Annotated[Constant | Exponential | Lognormal | Uniform | Bimodal, Field(discriminator="type")]

LATENCY_TYPES = ("constant", "exponential", "lognormal", "uniform", "bimodal")

FaultKind = Literal[
    "400", "404", "429", "500", "502", "503", "504", "529",
    "html", "empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status",
    "reset", "lost", "hang", "slow",
]  # fmt: skip


class Faults(Section):
    """The probability of each kind of fault, per exchange.

    A POST that meets `empty`, `cut`, `not_utf8`, `not_json`, `not_object`, `no_id`, `odd_status`, `lost`
    or `slow` has created its job; one that meets any other kind has not.
    """

    post: dict[FaultKind, Share] = {}
    get: dict[FaultKind, Share] = {}

    @field_validator("post", "get")
    @classmethod
    def _at_most_all(cls, faults: dict[str, float]) -> dict[str, float]:
        if sum(faults.values()) > 1:
            raise ValueError("the probabilities must not add up to more than 1")
        return faults


class RateLimit(Section):
    """A token bucket over all POSTs or all GETs; past it the answer is 429 with Retry-After."""

    per_s: float = Field(gt=0)
    burst: Count = 1


class RateLimits(Section):
    post: RateLimit | None = None
    get: RateLimit | None = None


class Simulator(Section):
    """The local service: for `base_url: simulator` and `runner simulate`."""

    latency: Latency = Lognormal(type="lognormal", mean_s=2.0, sigma=0.5)
    """How long a job runs once it is started."""
    windows: dict[str, Annotated[float, Field(gt=0)]] = {
        "asap": 0.1, "priority": 0.25, "standard": 0.5, "balanced": 0.5, "flex": 1.0,
    }  # fmt: skip
    """Completion windows that are known, each with the factor on the latency; any other is a 400.

    A job that names no window has the factor 1."""
    capacity: Count | None = None
    """Jobs running at once; the others wait in the order of their arrival."""
    vocabulary: Literal["sail", "openai"] = "sail"
    """Status words: pending, running … or queued, in_progress …"""
    models: tuple[str, ...] = ()
    """Models that are known; empty: every one is."""
    outcomes: dict[Literal["failed", "incomplete", "cancelled", "expired"], Share] = {}
    """The share of jobs that end otherwise than completed."""
    output_tokens: Count = 60
    """About how many words an answer has; a word is a token."""
    cached_share: Share = 0.0
    """The share of input tokens that usage reports as cached."""
    reasoning_share: Share = 0.0
    """The share of output tokens that usage reports as reasoning; the answer is shorter by as much."""
    exchange_s: float = Field(0.0, ge=0)
    """How long every answer to a POST or a GET of a response takes, apart from the job."""
    retention_s: Seconds | None = None
    """How long a response is kept after it was first delivered, then 404; null: for ever."""
    rate_limits: RateLimits = RateLimits()
    faults: Faults = Faults()
    fault_s: Seconds = 5.0
    """How long the fault `slow` delays an answer."""
    idempotency: bool = True
    """Whether Idempotency-Key is honoured."""
    cancellation: bool = True
    """Whether responses can be cancelled and deleted; else both are a 405."""
    api_key_env: str | None = None
    """The environment variable with the only key accepted; null: any key."""
    seed: int = 1
    """Decides every draw; the same seed and bodies give the same jobs, in whatever order they arrive."""

    @field_validator("outcomes")
    @classmethod
    def _at_most_all(cls, outcomes: dict[str, float]) -> dict[str, float]:
        if sum(outcomes.values()) > 1:
            raise ValueError("the shares must not add up to more than 1")
        return outcomes


class RunConfig(Section):
    """One run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)
    """Names the run directory: letters, digits, dot, dash and underscore."""
    target: Target = Target()
    request: dict[str, Any] = {}
    """Merged under every row's own body."""
    source: Source = Source()
    submit: Submit = Submit()
    poll: Poll = Poll()
    sink: Sink = Sink()
    limits: Limits = Limits()
    prices: Prices | None = None
    simulator: Simulator = Simulator()

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_is_none(cls, data: Any) -> Any:
        """`source:` with nothing under it is a section left at its defaults."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key == "name"}

    @field_validator("request")
    @classmethod
    def _only_what_is_json(cls, request: dict[str, Any]) -> dict[str, Any]:
        strange = next(_not_json(request), None)
        if strange is not None:
            raise ValueError(f"{strange!r} cannot be written as JSON: quote it")
        return request

    @field_validator("request")
    @classmethod
    def _only_what_can_be_polled(cls, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("stream"):
            raise ValueError("stream cannot be used: a background job is polled, not streamed")
        if request.get("background", True) is not True:
            raise ValueError("background must be true, or absent: every request is a background job")
        return request


def _not_json(value: Any) -> Iterator[Any]:
    """What in `value` YAML can say and JSON cannot: dates, bytes, sets, numbers without end."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _not_json(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _not_json(inner)
    elif not (value is None or isinstance(value, str | int)) and not (
        isinstance(value, float) and math.isfinite(value)
    ):
        yield value
