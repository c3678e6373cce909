"""The config file as frozen models, one class a section. Defaults here are the defaults of the tool."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from runner.config.base import Count, Seconds, Section
from runner.config.simulation import Simulator

EMBEDDED = "simulator"
"""`target.base_url: simulator` starts the simulator with the run and stops it with the run."""


_HOST = re.compile(r"[0-9a-f:.%]*:[0-9a-f:.%]*|(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")


class Target(Section):
    """Where requests go, and how."""

    base_url: str = "https://api.sailresearch.com/v1"
    """The API's root, to which `/responses` is appended; or `simulator`."""
    api_key_env: str = Field("SAIL_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name of the environment variable that holds the key; never the key."""
    mode: Literal["background", "batch"] = "background"
    """`background`: one POST a request, then polling. `batch`: many requests a POST, by the service's Batch
    API; see the section `batch`."""
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
        if not _HOST.fullmatch(address.hostname):
            raise ValueError(f"{address.hostname!r} is not a host name")
        if "@" in address.netloc:
            raise ValueError("must not hold a user name or password: name the key in target.api_key_env")
        if "?" in url or "#" in url:
            raise ValueError("must not hold a query or a fragment")
        return url.rstrip("/")


class Source(Section):
    """Where rows come from."""

    type: Literal["synthetic", "jsonl"] = "synthetic"
    """`synthetic`: numbered questions. `jsonl`: one row a line."""
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
    """How a failed POST is tried again: capped exponential backoff with full jitter.

    Failed polls wait alike, but are tried until `poll.deadline_s`.
    """

    max_attempts: Count = 8
    """POSTs of one request, before it ends `rejected` or `uncertain`."""
    base_s: Seconds = 0.5
    """The longest first wait; it doubles with every failure."""
    cap_s: Seconds = 60.0
    """The longest wait, `Retry-After` aside."""


class Submit(Section):
    """How requests are sent."""

    concurrency: Count = 200
    """POSTs in flight at once: the semaphore."""
    max_in_flight: Count = 20_000
    """Accepted jobs not yet done, POSTs in flight included."""
    retry: Retry = Retry()
    on_uncertain: Literal["hold", "resend"] = "hold"
    """A request that was perhaps accepted, and that no key protects: end it `uncertain`, or send it again
    and perhaps pay for it twice."""


class Poll(Section):
    """How jobs are followed."""

    concurrency: Count = 200
    """GETs in flight at once."""
    strategy: Literal["adaptive", "exponential", "fixed"] = "adaptive"
    """`adaptive` learns when jobs of a model and window finish, and looks then."""
    interval_s: Seconds = 1.0
    """`fixed`: the interval. `exponential`, and `adaptive` until it has learned: the first."""
    factor: float = Field(1.5, ge=1)
    """`exponential`: each interval is the last one times this."""
    max_interval_s: Seconds = 30.0
    """The longest interval of `exponential`, and of `adaptive` until it has learned."""
    lag_target: float = Field(0.05, gt=0, le=1)
    """`adaptive`: mean lag until a finished job is noticed, as a share of the mean completion time."""
    max_rate: float | None = Field(None, gt=0)
    """GETs per second, at most."""
    deadline_s: Seconds = 86_400.0
    """Give up on one job this long after it was accepted."""


class Batch(Section):
    """How requests are put together, with `target.mode: batch`."""

    max_requests: Count = 100_000
    """Requests in one batch, at most."""
    max_bytes: Count = 256_000_000
    """Of the whole encoded body."""
    concurrency: Count = 2
    """Batches being uploaded at once."""
    max_open: Count = 8
    """Batches accepted, or being uploaded, and not yet collected."""
    label: str | None = Field(None, pattern=r"^[a-zA-Z0-9_-]+$", max_length=64)
    """Begins the label of each batch; the run's name where not given."""
    timeout_s: Seconds = 600.0
    """One upload, whole."""


class Sink(Section):
    """Where results go."""

    dir: str = "runs"
    """The run directory is <dir>/<name>."""
    on_existing: Literal["resume", "new", "fail"] = "resume"
    """When the run directory exists: continue it, set it aside and start afresh, or refuse."""
    fsync_s: float = Field(1.0, ge=0.01)
    """A received result is on disk at most this much later."""
    store: Literal["full", "text"] = "full"
    """`full`: the response object as received. `text`: only id, status, model, text, usage and error."""


class Limits(Section):
    """When to stop early, with exit code 3; the same command continues."""

    max_s: Seconds | None = None
    """Seconds of one session, after which nothing more is sent."""
    max_cost_usd: float | None = Field(None, gt=0)
    """Of all results, by `prices`; what is in flight is counted in at the mean cost of those done."""
    max_failures: Count | None = None
    """Requests that ended other than `completed`."""
    max_outage_s: Seconds = 60.0
    """How long nothing but failures may come back: no answers, 5xx, refusals of every request as too many.
    Meanwhile one request at a time tries whether the service is back."""
    drain_s: float = Field(30.0, ge=0)
    """After a first Ctrl-C, or a limit: how long open jobs are still polled."""


class Engine(Section):
    """Where the work is done."""

    type: Literal["local"] = "local"
    """`local`: on this machine."""
    workers: Count = 1
    """Processes among which the rows are shared out; `submit`, `poll` and `limits` are totals of all."""


class Prices(Section):
    """USD per million tokens."""

    input: float = Field(0.0, ge=0)
    cached: float | None = Field(None, ge=0)
    """Input tokens served from a cache; as `input` where not given."""
    output: float = Field(0.0, ge=0)


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
    batch: Batch = Batch()
    sink: Sink = Sink()
    limits: Limits = Limits()
    prices: Prices | None = None
    engine: Engine = Engine()
    simulator: Simulator = Simulator()

    @property
    def posts_at_once(self) -> int:
        """How many POSTs may be under way, in its mode."""
        return self.batch.concurrency if self.target.mode == "batch" else self.submit.concurrency

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_is_none(cls, data: Any) -> Any:
        """`source:` with nothing under it is a section left at its defaults."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key == "name"}

    @model_validator(mode="after")
    def _a_budget_needs_prices(self) -> RunConfig:
        if self.limits.max_cost_usd is not None and self.prices is None:
            raise ValueError("limits.max_cost_usd needs prices")
        return self

    @model_validator(mode="after")
    def _each_worker_needs_a_share(self) -> RunConfig:
        shared = {
            "submit.concurrency": self.submit.concurrency,
            "submit.max_in_flight": self.submit.max_in_flight,
            "poll.concurrency": self.poll.concurrency,
        }
        for name, total in shared.items():
            if self.engine.workers > total:
                raise ValueError(f"engine.workers ({self.engine.workers}) is more than {name} ({total})")
        return self

    @model_validator(mode="after")
    def _batches_need_one_process(self) -> RunConfig:
        if self.target.mode == "batch" and self.engine.workers > 1:
            raise ValueError(
                f"engine.workers ({self.engine.workers}) must be 1: mode: batch is worked on by one process"
            )
        return self

    @field_validator("request")
    @classmethod
    def _only_what_is_json(cls, request: dict[str, Any]) -> dict[str, Any]:
        strange = next(_not_json(request), None)
        if strange is not None:
            raise ValueError(f"{strange!r} cannot be written as JSON: quote it")
        return request

    @field_validator("request")
    @classmethod
    def _only_what_can_be_polled(cls, request: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        target = info.data.get("target")  # absent where it is wrong itself
        is_batch = isinstance(target, Target) and target.mode == "batch"
        if request.get("stream"):
            what = "batch" if is_batch else "background job"
            raise ValueError(f"stream cannot be used: a {what} is polled, not streamed")
        if not is_batch and request.get("background", True) is not True:
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
