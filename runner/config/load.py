"""YAML file → `RunConfig`: overrides, variables, and every error at once with file, line and path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from runner.config.expand import Expander
from runner.config.explain import Origin, Path_, dotted, explain
from runner.config.sections import RunConfig
from runner.errors import ConfigError, Problem


def load(
    path: str | Path, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> RunConfig:
    """Read `path`, apply `section.key=value` overrides, validate.

    Raises `ConfigError` with all problems found. Strings may hold `${NAME}` and `${NAME:-default}`;
    `$$` is a dollar sign. A value that is nothing but one variable is read again as YAML, so that
    `count: ${ROWS:-100}` is a number.
    """
    environ = os.environ if environ is None else environ
    data, origin = _read(Path(path))
    expander = Expander(environ, origin)
    problems = list(_override(data, origin, overrides))
    expanded = expander.expand(data)
    problems += expander.problems
    try:
        config = RunConfig.model_validate(expanded)
    except ValidationError as error:
        raise ConfigError(*problems, *explain(error, expanded, origin, RunConfig)) from None
    if problems:
        raise ConfigError(*problems)
    _keep_the_key_out(config, environ, origin)
    return config


def _read(path: Path) -> tuple[dict[Any, Any], Origin]:
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(Problem("there is no such config file", name)) from None
    except IsADirectoryError:
        raise ConfigError(Problem("is a directory, not a config file", name)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(Problem(f"the config cannot be read: {reason}", name)) from None
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        origin = Origin(name)
        if node is None:
            raise ConfigError(
                Problem("the config is empty", name, "it needs at least name and request.model")
            )
        doubled = list(_mark(node, (), origin))
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(Problem(f"is not YAML: {error.problem}", f"{name}:{line}")) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(Problem(f"is not YAML: {error}", name)) from None
    finally:
        loader.dispose()
    if doubled:
        raise ConfigError(*doubled)
    if not isinstance(data, dict):
        raise ConfigError(Problem("must be a mapping of sections", f"{name}:1"))
    return data, origin


def _mark(node: yaml.Node, path: Path_, origin: Origin) -> Iterator[Problem]:
    """Remember the line of every key and item; yield keys that are given twice (YAML keeps the last)."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in seen and key.tag != "tag:yaml.org,2002:merge":
                yield Problem(f"{dotted((*path, name))} is given twice", f"{origin.file}:{line}")
            seen.add(name)
            origin.lines[(*path, name)] = line
            yield from _mark(value, (*path, name), origin)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            origin.lines[(*path, index)] = value.start_mark.line + 1
            yield from _mark(value, (*path, index), origin)


def _override(data: dict[Any, Any], origin: Origin, overrides: Sequence[str]) -> Iterator[Problem]:
    for text in overrides:
        where = f"--set {text}"
        dotted, equals, raw = text.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            yield Problem("an override is written section.key=value", where)
            continue
        try:
            value = yaml.safe_load(raw) if raw.strip() else None
        except yaml.YAMLError:
            yield Problem("the value is not YAML", where, "quote it")
            continue
        inner = data
        for key in keys[:-1]:
            nested = inner.get(key)
            if not isinstance(nested, dict):
                nested = inner[key] = {}
            inner = nested
        inner[keys[-1]] = value
        origin.overrides[tuple(keys)] = where


def _keep_the_key_out(config: RunConfig, environ: Mapping[str, str], origin: Origin) -> None:
    """The resolved config is written into the run directory, so the key must not be in it."""
    key = environ.get(config.target.api_key_env, "")
    if len(key) >= 8 and key in config.model_dump_json():
        raise ConfigError(
            Problem(
                "the API key itself stands in the config, and the config is copied into the run directory",
                origin.file,
                f"name its variable in target.api_key_env ({config.target.api_key_env}) instead",
            )
        )
