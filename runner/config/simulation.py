"""The `simulator` section: the service that the simulator plays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from runner.config.base import Count, Seconds, Section, Share


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
    or `slow` has created its job or batch; one that meets any other kind has not.
    """

    post: dict[FaultKind, Share] = {}
    get: dict[FaultKind, Share] = {}
    batch: dict[FaultKind, Share] = {}
    """POST /batches. Its answer has no status: `odd_status` gives it one."""
    status: dict[FaultKind, Share] = {}
    """GET /batches/{id} and the list. `odd_status` is the word of every request; `no_id` leaves the id out
    of every batch of a list, and `not_object` puts the list into an object."""
    result: dict[FaultKind, Share] = {}
    """GET /batches/{id}/{custom_id}."""

    @field_validator("post", "get", "batch", "status", "result")
    @classmethod
    def _at_most_all(cls, faults: dict[str, float]) -> dict[str, float]:
        if sum(faults.values()) > 1:
            raise ValueError("the probabilities must not add up to more than 1")
        return faults


class RateLimit(Section):
    """A token bucket over all POSTs or all GETs, also of batches; past it, 429 with Retry-After."""

    per_s: float = Field(gt=0)
    burst: Count = 1


class RateLimits(Section):
    post: RateLimit | None = None
    get: RateLimit | None = None


class Batches(Section):
    """The Batch API: many requests in one POST, their states in one map, their results one by one."""

    offered: bool = True
    """Whether there is one; else all of /batches is a 404."""
    max_requests: Count = 100_000
    max_bytes: Count = 256_000_000
    """The largest body of a POST; past it the answer is 413."""
    names_item: Literal["index", "custom_id", "none"] = "index"
    """How a 400 names the request that is wrong: `param` as requests[17].params.model, custom_id in the
    message alone, or not at all."""
    labels: bool = True
    """Whether a label is told back; else it is accepted and lost."""
    listing: bool = True
    """Whether GET /batches lists them; else it is a 404."""
    create_s: float = Field(0.0, ge=0)
    """How long after its body has come a batch is created and answered."""


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
    """How long every answer to a POST or a GET of a response or a batch takes, apart from the job."""
    retention_s: Seconds | None = None
    """How long a response is kept after it was first delivered, then 404; null: for ever."""
    rate_limits: RateLimits = RateLimits()
    faults: Faults = Faults()
    batches: Batches = Batches()
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
