"""A run directory, and lines for its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.config import RunConfig
from runner.records import Reply, Result, Timing
from runner.source import Survey
from runner.store import Acceptance, Intent, Retraction, RunDir


def _line(row: int, **changes: Any) -> Result:
    body = b'{"id": "resp_%d", "output": [], "usage": {"input_tokens": 3}}' % row
    result = Result(
        custom_id=f"id-{row}",
        row=row,
        status="completed",
        response=Reply(status_code=200, request_id=None, body=msgspec.Raw(body)),
        error=None,
        timing=Timing(due=1.0, sent=1.5, accepted=2.0, pending=None, done=5.0),
        attempts=1,
        polls=2,
    )
    return msgspec.structs.replace(result, **changes)


class Entries:
    """Journal entries of a row, with times and names that follow from its number."""

    def intent(self, row: int) -> Intent:
        return Intent(row=row, custom_id=f"id-{row}", key=f"key-{row}", due=1.0 + row, at=2.0 + row)

    def accepted(self, row: int) -> Acceptance:
        return Acceptance(row=row, job=f"resp_{row}", kind="m", attempts=2, at=3.0 + row)

    def refused(self, row: int) -> Retraction:
        return Retraction(row=row, cause="429", at=2.5 + row)


@pytest.fixture(scope="session")
def entries() -> Entries:
    return Entries()


@pytest.fixture(scope="session")
def line() -> Callable[..., Result]:
    """A result of row n; keyword arguments change fields."""
    return _line


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
