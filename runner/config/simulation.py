"""The `simulator` section: the service that the simulator imitates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from runner.config.base import Count, Seconds, Section, Share


class Constant(Section):
    """The same latency for every job."""

    type: Literal["constant"]
    mean_s: float = Field(ge=0)
    """Latency, in seconds."""


class Exponential(Section):
    """Exponentially distributed latencies."""

    type: Literal["exponential"]
    mean_s: Seconds
    """Mean latency, in seconds."""


class Lognormal(Section):
    """Lognormally distributed latencies."""

    type: Literal["lognormal"]
    mean_s: Seconds
    """Mean latency, in seconds."""
    sigma: float = Field(0.5, ge=0, le=5)
    """Standard deviation of the logarithm of the latency."""


class Uniform(Section):
    """Uniformly distributed latencies."""

    type: Literal["uniform"]
    min_s: float = Field(ge=0)
    """Shortest latency, in seconds."""
    max_s: Seconds
    """Longest latency, in seconds."""

    @model_validator(mode="after")
    def _check_order(self) -> Uniform:
        if self.max_s < self.min_s:
            raise ValueError("max_s must not be below min_s")
        return self


class Bimodal(Section):
    """A share of slow jobs among fast ones, both lognormally distributed."""

    type: Literal["bimodal"]
    fast_s: Seconds
    """Mean latency of the fast jobs, in seconds."""
    slow_s: Seconds
    """Mean latency of the slow jobs, in seconds."""
    slow_share: Share = 0.2
    """Share of slow jobs among all."""
    sigma: float = Field(0.2, ge=0, le=5)
    """Standard deviation of the logarithm of the latency, in both groups."""


Latency = Annotated[Constant | Exponential | Lognormal | Uniform | Bimodal, Field(discriminator="type")]

FaultKind = Literal[
    "400", "404", "429", "500", "502", "503", "504", "529",
    "html", "empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status",
    "reset", "lost", "hang", "slow",
]  # fmt: skip


class Faults(Section):
    """The probability of each kind of fault, per exchange.

    A POST with the fault `empty`, `cut`, `not_utf8`, `not_json`, `not_object`, `no_id`, `odd_status`, `lost`
    or `slow` has created its job or batch. A POST with any other fault has not.
    """

    post: dict[FaultKind, Share] = {}
    """Faults of POST /responses."""
    get: dict[FaultKind, Share] = {}
    """Faults of GET /responses/{id}."""
    batch: dict[FaultKind, Share] = {}
    """Faults of POST /batches. Its answer normally has no status; `odd_status` adds one."""
    status: dict[FaultKind, Share] = {}
    """Faults of GET /batches/{id} and of the list of batches. `odd_status` is the status of every request; in
    a list, `no_id` removes the id of every batch, and `not_object` puts the list into an object."""
    result: dict[FaultKind, Share] = {}
    """Faults of GET /batches/{id}/{custom_id}."""

    @field_validator("post", "get", "batch", "status", "result")
    @classmethod
    def _check_sum(cls, faults: dict[str, float]) -> dict[str, float]:
        if sum(faults.values()) > 1:
            raise ValueError("the probabilities must not add up to more than 1")
        return faults


class RateLimit(Section):
    """A token bucket; a request that finds it empty is answered with 429 and Retry-After."""

    per_s: float = Field(gt=0)
    """Requests per second."""
    burst: Count = 1
    """Most requests at once after a pause."""


class RateLimits(Section):
    """Rate limits over all POSTs and over all GETs, including those of batches."""

    post: RateLimit | None = None
    """Limit on POSTs; null for none."""
    get: RateLimit | None = None
    """Limit on GETs; null for none."""


class BatchApi(Section):
    """The Batch API: many requests in one POST, their states in one map, their results one by one."""

    offered: bool = True
    """Whether the service has a Batch API; if not, /batches and everything below it is a 404."""
    max_requests: Count = 100_000
    """Most requests in one batch."""
    max_bytes: Count = 256_000_000
    """Largest body of a POST, in bytes; a larger one is answered with 413."""
    names_item: Literal["index", "custom_id", "none"] = "index"
    """How a 400 names the request that is wrong: `index` in `param`, as in requests[17].params.model;
    `custom_id` in the message only; `none` not at all."""
    labels: bool = True
    """Whether the label of a batch is returned; if not, it is accepted and lost."""
    listing: bool = True
    """Whether GET /batches lists the batches; if not, it is a 404."""
    create_s: float = Field(0.0, ge=0)
    """Time from the end of its body until a batch is created and answered, in seconds."""


class Simulator(Section):
    """The local service, for `target.base_url: simulator` and for `runner simulate`."""

    latency: Latency = Lognormal(type="lognormal", mean_s=2.0, sigma=0.5)
    """Time that a job runs once it has started, in seconds."""
    windows: dict[str, Annotated[float, Field(gt=0)]] = {
        "asap": 0.1, "priority": 0.25, "standard": 0.5, "balanced": 0.5, "flex": 1.0,
    }  # fmt: skip
    """Known completion windows, each with its factor on the latency. A job without a window has the factor 1;
    an unknown window is answered with 400."""
    capacity: Count | None = None
    """Most jobs running at once; the others wait in order of arrival. Null for no limit."""
    vocabulary: Literal["sail", "openai"] = "sail"
    """Words for the status of a job: pending, running, … or queued, in_progress, …"""
    models: tuple[str, ...] = ()
    """Known models; if empty, every model is known."""
    outcomes: dict[Literal["failed", "incomplete", "cancelled", "expired"], Share] = {}
    """Shares of jobs that end with these statuses; all others end `completed`."""
    output_tokens: Count = 60
    """Approximate number of words in an answer. Each word is a token."""
    cached_share: Share = 0.0
    """Share of input tokens that the usage reports as cached."""
    reasoning_share: Share = 0.0
    """Share of output tokens that the usage reports as reasoning; the answer is shorter by as much."""
    exchange_s: float = Field(0.0, ge=0)
    """Time that each exchange takes, in seconds; not part of a job's latency."""
    retention_s: Seconds | None = None
    """Time after its first delivery until a response is deleted, in seconds; null to keep all responses."""
    rate_limits: RateLimits = RateLimits()
    faults: Faults = Faults()
    batches: BatchApi = BatchApi()
    fault_s: Seconds = 5.0
    """Delay of an answer with the fault `slow`, in seconds."""
    idempotency: bool = True
    """Whether Idempotency-Key is honoured."""
    cancellation: bool = True
    """Whether responses can be cancelled and deleted; if not, both are answered with 405."""
    api_key_env: str | None = None
    """Name of the environment variable with the only accepted key; null to accept every key."""
    seed: int = 1
    """Seed of every random draw. The same seed and bodies give the same jobs, in any order of arrival."""

    @field_validator("outcomes")
    @classmethod
    def _check_sum(cls, outcomes: dict[str, float]) -> dict[str, float]:
        if sum(outcomes.values()) > 1:
            raise ValueError("the shares must not add up to more than 1")
        return outcomes
