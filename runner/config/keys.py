"""Which keys the config knows, and where. Answers questions about a key that a section does not have."""

from __future__ import annotations

import difflib
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

from runner.config.base import Section

Path_ = tuple[str | int, ...]

_REQUEST_KEYS: Final = frozenset((
    "model", "input", "instructions", "max_output_tokens", "metadata", "temperature", "top_p", "reasoning",
    "text",
))  # fmt: skip
"""Keys of a request body that users may put at the top of the config."""


def dotted(path: Path_) -> str:
    """Return a path as users write it: `source.count`."""
    return ".".join(map(str, path))


def sections_at(model: type[Section], path: Path_) -> list[type[Section]]:
    """Return the sections that may stand at `path`: one, none, or one for each type of a union."""
    found = [model]
    for step in path:
        fields = [section.model_fields[str(step)] for section in found if str(step) in section.model_fields]
        found = [inner for info in fields for inner in _sections_in(info.annotation)]
    return found


def types_of(sections: list[type[Section]]) -> list[str]:
    """Return the values of `type` that select these members of a union, in its order."""
    return [word for section in sections if (word := _type_of(section))]


def selected(sections: list[type[Section]], data: Any) -> type[Section] | None:
    """Return the member of a union that `data` selects by its `type`; None if it selects none of them."""
    if len(sections) == 1:
        return sections[0]
    given = data.get("type") if isinstance(data, dict) else None
    for section in sections:
        is_default = not section.model_fields["type"].is_required()
        if given == _type_of(section) or (given is None and is_default):
            return section
    return None


def nearest(path: Path_, model: type[Section], here: list[type[Section]]) -> str | None:
    """Return the known key that was probably meant by the unknown key at `path`; None if no key is near.

    That is the nearest in spelling among the keys of the sections `here`, or else in the whole config.
    """
    wrong = str(path[-1])
    siblings = dict.fromkeys(key for section in here for key in section.model_fields)
    close = difflib.get_close_matches(wrong, siblings, n=1)
    if close:
        return dotted((*path[:-1], close[0]))
    if wrong in _REQUEST_KEYS:
        return f"request.{wrong}"
    known = _keys(model)
    elsewhere = [where for where in known if where[-1] == wrong]
    if not elsewhere:
        close = difflib.get_close_matches(wrong, {where[-1] for where in known}, n=1, cutoff=0.75)
        elsewhere = [where for where in known if where[-1] in close]
    return " or ".join(map(dotted, elsewhere)) or None


def _type_of(section: type[Section]) -> str | None:
    """Return the word that selects this section of a union; None if it is in no union."""
    info = section.model_fields.get("type")
    if info is None or get_origin(info.annotation) is not Literal:
        return None
    words = get_args(info.annotation)
    return str(words[0]) if len(words) == 1 else None


def _sections_in(annotation: Any) -> list[type[Section]]:
    """Return the sections in a type: itself, or the members of a union."""
    inner = (annotation, *get_args(annotation))
    return [one for one in inner if isinstance(one, type) and issubclass(one, Section)]


def _keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of all keys below `model`, each once."""
    found: dict[tuple[str, ...], None] = {}
    for name, info in model.model_fields.items():
        here = (*above, name)
        found[here] = None
        for section in _sections_in(info.annotation):
            found.update(dict.fromkeys(_keys(section, here)))
    return list(found)
