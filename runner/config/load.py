"""YAML file → `RunConfig`: overrides, variables, and every error at once with file, line and path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from runner.config.expand import Expander
from runner.config.explain import Origin, explain
from runner.config.run_config import RunConfig
from runner.config.target import SHORTEST_SECRET, Target
from runner.config.yaml_marks import read
from runner.errors import ConfigError, Problem


def load(
    path: str | Path, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> RunConfig:
    """Read `path`, apply `section.key=value` overrides, and validate.

    Strings may hold `${NAME}` and `${NAME:-default}`; `$$` is a dollar sign. A value that consists of one
    variable is parsed as YAML, so that `count: ${ROWS:-100}` is a number.

    Raises `ConfigError` with all problems.
    """
    environ = os.environ if environ is None else environ
    data, origin = read(Path(path))
    expander = Expander(environ, origin)
    problems = list(_override(data, origin, overrides))
    expanded = expander.expand(data)
    _keep_keys_out(expanded, environ, origin)
    problems += expander.problems.values()
    try:
        config = RunConfig.model_validate(expanded)
    except ValidationError as error:
        more = explain(error, expanded, origin, RunConfig, already_reported=frozenset(expander.problems))
        raise ConfigError(*problems, *more) from None
    if problems:
        raise ConfigError(*problems)
    return config


def _override(data: dict[Any, Any], origin: Origin, overrides: Sequence[str]) -> Iterator[Problem]:
    """Set the overrides in `data`. Yields a problem for each that cannot be read."""
    for text in overrides:
        where = f"--set {text}"
        path, equals, raw = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            yield Problem("write an override as section.key=value", where)
            continue
        try:
            value = yaml.safe_load(raw) if raw.strip() else None
        except yaml.YAMLError:
            value = raw  # for example a template, whose braces and colons are not meant as YAML
        inner = data
        for key in keys[:-1]:
            nested = inner.get(key)
            if not isinstance(nested, dict):
                nested = inner[key] = {}
            inner = nested
        inner[keys[-1]] = value
        origin.overrides[tuple(keys)] = where


def _keep_keys_out(data: dict[str, Any], environ: Mapping[str, str], origin: Origin) -> None:
    """Raise `ConfigError` if the config contains an API key: it is copied to disk, and errors quote it."""
    for section in ("target", "simulator"):
        named = data.get(section)
        name = named.get("api_key_env") if isinstance(named, dict) else None
        if not isinstance(name, str):
            name = Target.model_fields["api_key_env"].default if section == "target" else ""
        key = environ.get(name, "").strip()
        if len(key) >= SHORTEST_SECRET and any(key in text for text in _strings(data)):
            raise ConfigError(
                Problem(
                    "the API key itself is in the config, which is copied into the run directory",
                    origin.file,
                    f"remove it; the key is read from the variable named by {section}.api_key_env ({name})",
                )
            )


def _strings(value: Any) -> Iterator[str]:
    """Yield every string in `value`, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
