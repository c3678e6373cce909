"""The `prices` section: what tokens cost."""

from __future__ import annotations

from pydantic import Field

from runner.config.base import Section


class Prices(Section):
    """USD per million tokens."""

    input: float = Field(0.0, ge=0)
    """Input tokens, except cached ones."""
    cached: float | None = Field(None, ge=0)
    """Input tokens served from a cache; the same as `input` if not given."""
    output: float = Field(0.0, ge=0)
    """Output tokens, including reasoning."""
