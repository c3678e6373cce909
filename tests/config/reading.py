"""Types of the fixtures that load a config and collect its problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from runner.config import RunConfig
from runner.errors import Problem


class Read(Protocol):
    """Writes a config to `run.yaml` and loads it."""

    def __call__(
        self, text: str | bytes, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> RunConfig:
        """Return the config. Raises `ConfigError`."""


class Problems(Protocol):
    """Writes a config with mistakes to `run.yaml` and loads it."""

    def __call__(
        self, text: str | bytes, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> tuple[Problem, ...]:
        """Return all problems, of which there must be some."""
