"""A config file to write, and what `load` says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from runner.config import RunConfig, load
from runner.errors import ConfigError, Problem


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunConfig]:
    """Load a config of this text under the name `run.yaml`, from the directory it lies in."""
    monkeypatch.chdir(tmp_path)

    def read(
        text: str | bytes, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> RunConfig:
        Path("run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load("run.yaml", overrides, environ or {})

    return read


@pytest.fixture
def problems(read: Callable[..., RunConfig]) -> Callable[..., tuple[Problem, ...]]:
    """All problems of a config that must have some."""

    def problems(
        text: str | bytes, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as told:
            read(text, overrides, environ)
        assert told.value.exit_code == 2
        return told.value.problems

    return problems
