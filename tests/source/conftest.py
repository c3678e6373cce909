"""A source made of rows in a file, as a config would name it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.config import RunConfig
from runner.errors import InputError
from runner.records import Request
from runner.source import Source


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Source]:
    """A `Source` over `in.jsonl` with this content, read from the directory it lies in."""
    monkeypatch.chdir(tmp_path)

    def source(content: bytes | str | None, request: dict[str, Any] | None = None, **section: Any) -> Source:
        if content is not None:
            Path("in.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
        return Source(
            RunConfig.model_validate(
                {
                    "name": "test",
                    "request": {"model": "m"} if request is None else request,
                    "source": {"type": "jsonl", "path": "in.jsonl", **section},
                }
            )
        )

    return source


@pytest.fixture
def requests(source: Callable[..., Source]) -> Callable[..., list[Request]]:
    """All requests of a source that `survey` finds good."""

    def requests(*args: Any, **kwargs: Any) -> list[Request]:
        made = source(*args, **kwargs)
        found = [made.request(line) for block in made.blocks() for line in block]
        assert made.survey().rows == len(found)
        return found

    return requests


@pytest.fixture
def bodies(requests: Callable[..., list[Request]]) -> Callable[..., list[dict[str, Any]]]:
    """The decoded bodies of a source, without the `background` that every one has."""

    def bodies(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        decoded = [msgspec.json.decode(request.body) for request in requests(*args, **kwargs)]
        assert all(body.pop("background") is True for body in decoded)
        return decoded

    return bodies


@pytest.fixture
def wrong(source: Callable[..., Source]) -> Callable[..., list[str]]:
    """What is said of input that must be wrong, one string a problem."""

    def wrong(*args: Any, **kwargs: Any) -> list[str]:
        with pytest.raises(InputError) as told:
            source(*args, **kwargs).survey()
        assert told.value.exit_code == 2
        return [str(problem) for problem in told.value.problems]

    return wrong
