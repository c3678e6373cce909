"""Fixtures: a config to write, and what `load` says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from runner.config import RunConfig, load
from runner.errors import ConfigError, Problem
from tests.config.reading import Problems, Read


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Load a config with this text under the name `run.yaml`, from its own directory."""
    monkeypatch.chdir(tmp_path)

    def read(
        text: str | bytes, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> RunConfig:
        Path("run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load("run.yaml", overrides, environ or {})

    return read


@pytest.fixture
def problems(read: Read) -> Problems:
    """Return all problems of a config that must have some."""

    def problems(
        text: str | bytes, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as raised:
            read(text, overrides, environ)
        assert raised.value.exit_code == 2
        return raised.value.problems

    return problems
