"""The whole config of a run: its sections, and the rules that hold between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from runner.config.base import Section
from runner.config.batch import Batch
from runner.config.engine import Engine
from runner.config.limits import Limits
from runner.config.poll import Poll
from runner.config.prices import Prices
from runner.config.simulation import Simulator
from runner.config.sink import Sink
from runner.config.source import Source
from runner.config.submit import Submit
from runner.config.target import Target


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
