"""Fixtures: a source of rows in a file, as a config would name it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from runner.config import RunConfig
from runner.errors import InputError
from runner.records import Request
from runner.source import Source
from tests.source.making import Bodies, Body, MakeSource, Problems, Requests


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSource:
    """Make a `Source` of `in.jsonl` with this content, read from its own directory."""
    monkeypatch.chdir(tmp_path)

    def source(content: bytes | str | None, request: Body | None = None, **section: str | int) -> Source:
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
def requests(source: MakeSource) -> Requests:
    """Return all requests of a source that `survey` finds to be good."""

    def requests(
        content: bytes | str | None, request: Body | None = None, **section: str | int
    ) -> list[Request]:
        made = source(content, request, **section)
        found = [made.request(row) for block in made.blocks() for row in block]
        assert made.survey().rows == len(found)
        return found

    return requests


@pytest.fixture
def bodies(requests: Requests) -> Bodies:
    """Return the decoded bodies of a source, without the `background` that each one has."""

    def bodies(content: bytes | str | None, request: Body | None = None, **section: str | int) -> list[Body]:
        decoded = [msgspec.json.decode(made.body) for made in requests(content, request, **section)]
        assert all(body.pop("background") is True for body in decoded)
        return decoded

    return bodies


@pytest.fixture
def wrong(source: MakeSource) -> Problems:
    """Return the problems of input that must be wrong, one string each."""

    def wrong(content: bytes | str | None, request: Body | None = None, **section: str | int) -> list[str]:
        with pytest.raises(InputError) as raised:
            source(content, request, **section).survey()
        assert raised.value.exit_code == 2
        return [str(problem) for problem in raised.value.problems]

    return wrong
