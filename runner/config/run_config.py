"""The whole config of a run: its sections, and the rules that hold between them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from runner.config.base import RUN_NAME, Section
from runner.config.batch import Batch
from runner.config.engine import Engine
from runner.config.limits import Limits
from runner.config.poll import Poll
from runner.config.prices import Prices
from runner.config.request import check_request
from runner.config.simulation import Simulator
from runner.config.sink import Sink
from runner.config.source import Source, SyntheticSource
from runner.config.submit import Submit
from runner.config.target import Target


class RunConfig(Section):
    """The config of one run."""

    name: str = Field(pattern=RUN_NAME, max_length=128)
    """Name of the run and of its directory. May contain letters, digits, dot, dash and underscore."""
    target: Target = Target()
    request: dict[str, Any] = {}
    """Fields of every request body. Each row's own fields are merged over them."""
    source: Source = SyntheticSource()
    """Where rows come from."""
    submit: Submit = Submit()
    poll: Poll = Poll()
    batch: Batch = Batch()
    sink: Sink = Sink()
    limits: Limits = Limits()
    prices: Prices | None = None
    """USD per million tokens; null if costs are not to be computed."""
    engine: Engine = Engine()
    simulator: Simulator = Simulator()

    @property
    def posts_at_once(self) -> int:
        """The most POSTs in flight at once, in the run's mode."""
        return self.batch.concurrency if self.target.mode == "batch" else self.submit.concurrency

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty_sections(cls, data: Any) -> Any:
        """Give `source:` with nothing under it the defaults."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key == "name"}

    @field_validator("request")
    @classmethod
    def _check_request(cls, request: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        target = info.data.get("target")  # absent if it is wrong itself
        check_request(request, is_batch=isinstance(target, Target) and target.mode == "batch")
        return request

    @model_validator(mode="after")
    def _require_prices_for_a_cost_limit(self) -> RunConfig:
        if self.limits.max_cost_usd is not None and self.prices is None:
            raise ValueError("limits.max_cost_usd needs prices")
        return self

    @model_validator(mode="after")
    def _require_a_share_for_each_worker(self) -> RunConfig:
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
    def _require_one_worker_for_batches(self) -> RunConfig:
        if self.target.mode == "batch" and self.engine.workers > 1:
            raise ValueError(
                f"engine.workers ({self.engine.workers}) must be 1: target.mode: batch runs in one process"
            )
        return self
