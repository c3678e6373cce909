"""Validation errors in a user's words: where, what is wrong, and which key was probably meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from runner.config.base import PATTERN_WORDS, Section
from runner.config.keys import Path_, dotted, nearest, sections_at, selected, types_of
from runner.errors import Problem

_WORDS: Final = {
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be {expected}",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
}
"""What a value must be, by the type of pydantic's error."""
_YAML_WORDS: Final = {None: "null", True: "true", False: "false"}


@dataclass(slots=True)
class Origin:
    """Where each value of a config was given: a line of the file, or an override."""

    file: str
    lines: dict[Path_, int] = field(default_factory=dict)
    overrides: dict[Path_, str] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """Return the place of `path`, or of the nearest key above it that was given."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return self.overrides[path[:length]]
            if path[:length] in self.lines:
                return f"{self.file}:{self.lines[path[:length]]}"
        below = (text for set_path, text in self.overrides.items() if set_path[: len(path)] == path)
        return next(below, f"{self.file}:1")


def explain(
    error: ValidationError,
    data: Any,
    origin: Origin,
    model: type[Section],
    *,
    already_reported: frozenset[Path_] = frozenset(),
) -> list[Problem]:
    """Return the problems behind pydantic's errors, in the order of the file.

    Paths in `already_reported` are left out.
    """
    explainer = _Explainer(data, origin, model)
    problems: list[Problem] = []
    for detail in error.errors(include_url=False):
        path = _path_in_data(detail["loc"], data, missing=detail["type"] == "missing")
        if path not in already_reported:
            problems.extend(explainer.problems(detail, path))
    return sorted(problems, key=_place)


class _Explainer:
    """Puts single errors into words, with the data that they are in at hand."""

    def __init__(self, data: Any, origin: Origin, model: type[Section]) -> None:
        self._data = data
        self._origin = origin
        self._model = model

    def problems(self, detail: ErrorDetails, path: Path_) -> Iterator[Problem]:
        """Yield the problem behind one error of pydantic's, and what the error hides."""
        name, where = dotted(path), self._origin.where(path)
        match detail["type"]:
            case "missing":
                yield self._missing(path)
            case "extra_forbidden":
                yield self._unknown(path)
            case "union_tag_not_found" | "union_tag_invalid":
                yield from self._untyped(path)
            case "value_error":
                message = str(detail["ctx"]["error"])
                yield Problem(f"{name}: {message}" if name else message, where)
            case "model_type" | "model_attributes_type":
                yield Problem(f"{name} must be a section with keys of its own, not {_shown(detail)}", where)
            case "string_pattern_mismatch":
                words = PATTERN_WORDS[detail["ctx"]["pattern"]]
                yield Problem(f"{name}: {_shown(detail)} is not allowed; {words}", where)
            case kind if kind in _WORDS:
                yield Problem(
                    f"{name}: {_WORDS[kind].format(**detail.get('ctx', {}))}, not {_shown(detail)}", where
                )
            case _:
                message = detail["msg"][0].lower() + detail["msg"][1:]
                yield Problem(f"{name}: {message}, not {_shown(detail)}", where)

    def _missing(self, path: Path_) -> Problem:
        *_, key = path
        union, section = self._sections_around(path)
        with_type = f" with type: {types_of([section])[0]}" if section and len(union) > 1 else ""
        hint = section.hints.get(str(key), "") if section else ""
        return Problem(f"{dotted(path)} is required{with_type}", self._origin.where(path), hint)

    def _unknown(self, path: Path_) -> Problem:
        where, key = self._origin.where(path), str(path[-1])
        union, section = self._sections_around(path)
        others = types_of([other for other in union if key in other.model_fields])
        if section and others:
            what = (
                f"{dotted(path)} goes with type: {_either(others)}, not with type: {types_of([section])[0]}"
            )
            return Problem(what, where, section.hints.get(key, ""))
        near = nearest(path, self._model, [section] if section else union)
        return Problem(f"unknown key {dotted(path)}", where, f"did you mean {near}?" if near else "")

    def _untyped(self, path: Path_) -> Iterator[Problem]:
        """Yield the problem with the `type` of a section, and the keys that no type has.

        Pydantic does not look into a section whose type is unknown.
        """
        union = sections_at(self._model, path)
        data = _at(self._data, path)
        where, name = self._origin.where((*path, "type")), dotted((*path, "type"))
        what = f"{name}: {_short(data['type'])} is not supported" if "type" in data else f"{name} is required"
        yield Problem(what, where, f"one of {', '.join(types_of(union))}")
        for key in data:
            if not any(key in section.model_fields for section in union):
                yield self._unknown((*path, key))

    def _sections_around(self, path: Path_) -> tuple[list[type[Section]], type[Section] | None]:
        """Return the sections that the key at `path` may stand in, and the one that it does stand in."""
        union = sections_at(self._model, path[:-1])
        return union, selected(union, _at(self._data, path[:-1]))


def _place(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem.where, 0)


def _either(words: list[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _shown(detail: ErrorDetails) -> str:
    return _short(detail["input"])


def _short(value: Any) -> str:
    text = _YAML_WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _path_in_data(loc: tuple[str | int, ...], data: Any, *, missing: bool) -> Path_:
    """Return `loc` without the names of union members that pydantic puts between keys."""
    path: list[str | int] = []
    inner = data
    for index, step in enumerate(loc):
        is_last = index == len(loc) - 1
        if _has(inner, step):
            inner = inner[step]
        elif not (is_last and missing):
            continue
        path.append(step)
    return tuple(path)


def _at(data: Any, path: Path_) -> Any:
    """Return the value at `path`, or an empty mapping if there is none."""
    for step in path:
        if not _has(data, step):
            return {}
        data = data[step]
    return data


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value
