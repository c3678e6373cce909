"""Types of the fixtures that make a source of rows in a file."""

from __future__ import annotations

from typing import Any, Protocol

from runner.config import RunConfig
from runner.records import Request
from runner.source import Source

Body = dict[str, Any]
"""A decoded request body."""


class MakeSource(Protocol):
    """Makes a source of `in.jsonl`."""

    def __call__(
        self, content: bytes | str | None, request: Body | None = None, **section: str | int
    ) -> Source:
        """Write `content` to the file, and return a source with these keys in its section of the config."""


class Requests(Protocol):
    """Makes a source of good rows."""

    def __call__(
        self, content: bytes | str | None, request: Body | None = None, **section: str | int
    ) -> list[Request]:
        """Return all of its requests."""


class Bodies(Protocol):
    """Makes a source of good rows."""

    def __call__(
        self, content: bytes | str | None, request: Body | None = None, **section: str | int
    ) -> list[Body]:
        """Return the decoded bodies of all of its requests."""


class Problems(Protocol):
    """Makes a source of rows with mistakes."""

    def __call__(
        self, content: bytes | str | None, request: Body | None = None, **section: str | int
    ) -> list[str]:
        """Return all problems that `survey` reports, as users read them."""


def synthetic(**section: str | int | None) -> Source:
    """Return a source of generated rows with these keys in its section of the config."""
    config = {"name": "a", "request": {"model": "m"}, "source": section}
    return Source(RunConfig.model_validate(config))
