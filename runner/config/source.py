"""The `source` section: where rows come from."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from runner.config.base import Count, Section


class Source(Section):
    """Where rows come from."""

    type: Literal["synthetic", "jsonl"] = "synthetic"
    """`synthetic`: numbered questions. `jsonl`: one row a line."""
    count: Count | None = None
    """`synthetic` only: how many rows; 100 where not given."""
    path: str | None = None
    """`jsonl` only: a file or a glob, relative to the current directory."""
    prompt: str | None = None
    """A Jinja template over the row's fields and `i`; `synthetic` has a default."""
    custom_id: str | None = None
    """A Jinja template; the default is the row's own custom_id, else row-<i>."""

    @model_validator(mode="after")
    def _belongs_together(self) -> Source:
        if self.type == "synthetic" and self.path is not None:
            raise ValueError("path goes with type: jsonl")
        if self.type == "jsonl" and self.path is None:
            raise ValueError("type: jsonl needs path, a file or a glob")
        if self.type == "jsonl" and self.count is not None:
            raise ValueError("count goes with type: synthetic; to send fewer rows use --limit")
        return self
