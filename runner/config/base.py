"""What all sections share: they are frozen, refuse unknown keys, and take no infinite numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]

RUN_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
LABEL: Final = r"^[a-zA-Z0-9_-]+$"
VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
HEADER: Final = r"^[A-Za-z0-9-]+$"
PATTERN_WORDS: Final = {
    RUN_NAME: "it may contain letters, digits, . _ - and must begin with a letter or a digit",
    LABEL: "it may contain letters, digits, _ -",
    VARIABLE: "it may contain letters, digits, _ and must not begin with a digit",
    HEADER: "it may contain letters, digits, -",
}
"""The patterns of the config in words, for error messages."""


class Section(BaseModel):
    """A mapping of the config file, validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    hints: ClassVar[Mapping[str, str]] = {}
    """Advice by key, for a key that is missing here or that belongs to a section of another type."""
