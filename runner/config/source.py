"""The `source` section: where rows come from. One class per type; the key `type` selects it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import BeforeValidator, Field

from runner.config.base import Count, Section


class RowSource(Section):
    """The keys that all types have."""

    type: str
    prompt: str | None = None
    """Jinja template over the row's fields and `i`. It turns a row that is not itself a request into one."""
    custom_id: str | None = None
    """Jinja template for the id of each row. Default: the row's own `custom_id`, or `row-<i>`."""


class SyntheticSource(RowSource):
    """Generated rows, which have no field but their number `i`. The default prompt is a numbered question."""

    type: Literal["synthetic"] = "synthetic"
    count: Count | None = None
    """Number of rows; 100 if not given."""


class JsonLinesSource(RowSource):
    """Rows from a file with one JSON object per line."""

    type: Literal["jsonl"]
    path: str
    """A file, or a glob for several files; relative to the current directory."""

    hints: ClassVar[Mapping[str, str]] = {
        "path": "a file, or a glob for several",
        "count": "to send fewer rows, use --limit",
    }


_Types = SyntheticSource | JsonLinesSource
_KEYS: Final = frozenset(key for section in get_args(_Types) for key in section.model_fields) - {"type"}


def _normalise(section: Any) -> Any:
    """Return the section with its `type`, and without keys that are null.

    Null means "not given", also for a key of another type: earlier versions wrote all keys of all types to
    the config.yaml of a run, and these runs can still be continued.
    """
    if not isinstance(section, dict):
        return section
    given = {key: value for key, value in section.items() if value is not None or key not in _KEYS}
    return {"type": SyntheticSource.model_fields["type"].default, **given}


Source = Annotated[_Types, Field(discriminator="type"), BeforeValidator(_normalise)]
