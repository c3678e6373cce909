"""Fixtures: an empty run directory, and what a run is created from."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config import RunConfig
from runner.source import Survey
from runner.store import RunDir


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.model_validate({"name": "test", "request": {"model": "m", "metadata": {"b": 1, "a": 2}}})


@pytest.fixture
def survey() -> Survey:
    return Survey(rows=20, fingerprint="f" * 64)


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    path = tmp_path / "test"
    path.mkdir()
    return RunDir(path)
