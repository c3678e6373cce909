"""Environment variables in config strings: `${NAME}`, `${NAME:-default}`, and `$$` for a dollar sign."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from runner.config.explain import Origin
from runner.config.keys import Path_, dotted
from runner.errors import Problem

_VARIABLE: Final = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class Expander:
    """Expands a whole config. `problems` collects the variables that are not set, by path."""

    def __init__(self, environ: Mapping[str, str], origin: Origin) -> None:
        self._environ = environ
        self._origin = origin
        self.problems: dict[Path_, Problem] = {}

    def expand(self, value: Any, path: Path_ = ()) -> Any:
        """Return `value` with all of its strings expanded, and with numeric keys as strings."""
        if isinstance(value, dict):
            named = {str(key) if type(key) is int else key: inner for key, inner in value.items()}
            return {key: self.expand(inner, (*path, key)) for key, inner in named.items()}
        if isinstance(value, list):
            return [self.expand(inner, (*path, index)) for index, inner in enumerate(value)]
        if isinstance(value, str) and "$" in value:
            return self._substitute(value, path)
        return value

    def _substitute(self, text: str, path: Path_) -> Any:
        expanded = _VARIABLE.sub(lambda match: self._value_of(match, path), text)
        whole = _VARIABLE.fullmatch(text)
        return _scalar(expanded) if whole and whole["name"] else expanded

    def _value_of(self, match: re.Match[str], path: Path_) -> str:
        name = match["name"]
        if name is None:
            return "$"
        found = self._environ.get(name) or match["default"]
        if found is None:
            state = "is empty" if name in self._environ else "is not set"
            self.problems[path] = Problem(
                f"{dotted(path)} needs the environment variable {name}, which {state}",
                self._origin.where(path),
                f"set it, or write ${{{name}:-default}}",
            )
        return found or ""


def _scalar(text: str) -> Any:
    """Parse a value that was one whole variable, so that `count: ${ROWS}` is a number."""
    try:
        scalar = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return scalar if isinstance(scalar, int | float | bool) else text
