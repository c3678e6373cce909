"""Validation errors in a user's words: where it stands, what is wrong, which key was perhaps meant."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.config.simulation import LATENCY_TYPES
from runner.errors import Problem

Path_ = tuple[str | int, ...]


_REQUEST_KEYS: Final = frozenset(
    (
        "model",
        "input",
        "instructions",
        "max_output_tokens",
        "metadata",
        "temperature",
        "top_p",
        "reasoning",
        "text",
    )
)
"""Keys of a request body, which users look for at the top."""


def dotted(path: Path_) -> str:
    """A path as users write it."""
    return ".".join(map(str, path))


@dataclass(slots=True)
class Origin:
    """Where each value came from: a line of the file, or an override."""

    file: str
    lines: dict[Path_, int] = field(default_factory=dict)
    overrides: dict[Path_, str] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """The place of `path`, or of the nearest key above it that is there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return self.overrides[path[:length]]
            if path[:length] in self.lines:
                return f"{self.file}:{self.lines[path[:length]]}"
        made_by = next(
            (said for set_path, said in self.overrides.items() if set_path[: len(path)] == path), None
        )
        return made_by or f"{self.file}:1"


def explain(
    error: ValidationError,
    data: Any,
    origin: Origin,
    model: type[BaseModel],
    *,
    already_told: frozenset[Path_] = frozenset(),
) -> list[Problem]:
    """One `Problem` for each error of pydantic's, in the order of the file; none for paths `already_told`."""
    problems = []
    for detail in error.errors(include_url=False):
        path = _path_in_data(detail["loc"], data, missing=detail["type"] == "missing")
        if path not in already_told:
            problems.append(_problem(detail, path, data, origin, model))
    return sorted(problems, key=_place)


def _place(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem.where, 0)


def _problem(detail: ErrorDetails, path: Path_, data: Any, origin: Origin, model: type[BaseModel]) -> Problem:
    name = dotted(path)
    where = origin.where(path)
    match detail["type"]:
        case "missing":
            return Problem(f"{name} is required", where)
        case "extra_forbidden":
            near = _nearest(path, data, model)
            return Problem(f"unknown key {name}", where, f"did you mean {near}?" if near else "")
        case "value_error":
            said = str(detail["ctx"]["error"])
            return Problem(f"{name}: {said}" if name else said, where)
        case "union_tag_not_found":
            return Problem(f"{name}.type is required", where, _tags())
        case "union_tag_invalid":
            return Problem(f"{name}.type is not known", where, _tags())
        case "model_type" | "model_attributes_type":
            return Problem(f"{name} must be a section with keys of its own, not {_shown(detail)}", where)
        case "string_pattern_mismatch":
            pattern = detail["ctx"]["pattern"]
            return Problem(f"{name}: {_shown(detail)} does not fit {pattern}", where)
    said = detail["msg"][0].lower() + detail["msg"][1:]
    return Problem(f"{name}: {said}, not {_shown(detail)}", where)


def _tags() -> str:
    return "one of " + ", ".join(LATENCY_TYPES)


def _shown(detail: ErrorDetails) -> str:
    text = repr(detail["input"])
    return text if len(text) <= 60 else text[:57] + "…"


def _path_in_data(loc: tuple[str | int, ...], data: Any, *, missing: bool) -> Path_:
    """`loc` without the names of union members that pydantic puts between keys."""
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


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _nearest(path: Path_, data: Any, model: type[BaseModel]) -> str | None:
    """The known key nearest in spelling in the same section; else the same key where it does exist."""
    known = _fields(model)
    section = path[:-1]
    wrong = str(path[-1])
    siblings = {where[-1]: where for where in known if where[:-1] == section}
    close = difflib.get_close_matches(wrong, siblings, n=1)
    if close:
        return ".".join(siblings[close[0]])
    elsewhere = [".".join(where) for where in known if where[-1] == wrong]
    if elsewhere and wrong not in _REQUEST_KEYS:
        return " or ".join(elsewhere)
    if wrong in _REQUEST_KEYS:
        return f"request.{wrong}"
    close = difflib.get_close_matches(wrong, {where[-1] for where in known}, n=1, cutoff=0.75)
    return " or ".join(".".join(where) for where in known if where[-1] in close) or None


def _fields(model: type[BaseModel], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, info in model.model_fields.items():
        here = (*above, name)
        found.append(here)
        for inner in (info.annotation, *get_args(info.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found.extend(f for f in _fields(inner, here) if f not in found)
    return found
