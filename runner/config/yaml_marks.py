"""YAML text → data, and the line of every key. Reports what YAML allows and a config does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from runner.config.explain import Origin
from runner.config.keys import Path_, dotted
from runner.errors import ConfigError, Problem

_ROWS_GO_INTO_THE_SOURCE: Final = "name a file of rows in source.path of the config"
_MERGE: Final = "tag:yaml.org,2002:merge"
_STRINGS: Final = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:int", _MERGE)


def read(path: Path) -> tuple[dict[Any, Any], Origin]:
    """Return the mapping in the file, and the place of each key. Raises `ConfigError`."""
    name = str(path)
    origin = Origin(name)
    text = _text(path)
    try:
        wrong, data = _parse(text, origin)
    except yaml.MarkedYAMLError as error:
        if looks_like := _other_format(path, text):
            raise ConfigError(_not_a_config(looks_like, name)) from None
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(Problem(f"is not YAML: {error.problem}", f"{name}:{line}")) from None
    except RecursionError:
        raise ConfigError(Problem("is not YAML that can be read: it is nested too deeply", name)) from None
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(Problem(f"is not YAML: {reason}", name)) from None
    if wrong:
        raise ConfigError(*wrong)
    if not isinstance(data, dict):
        if looks_like := _other_format(path, text):
            raise ConfigError(_not_a_config(looks_like, name))
        raise ConfigError(Problem("must be a mapping of sections", f"{name}:1"))
    return data, origin


def _other_format(path: Path, text: str) -> str | None:
    """Return the format of a file of rows that was given as the config; None if it is not known."""
    first, *more = [line for line in text.splitlines() if line.strip()][:2] or [""]
    if path.suffix in (".jsonl", ".ndjson") or (more and _is_json_object(first)):
        return "JSON lines"
    if path.suffix in (".csv", ".tsv"):
        return "CSV"
    return None


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _not_a_config(looks_like: str, name: str) -> Problem:
    return Problem(f"this looks like {looks_like}; expected a YAML config", name, _ROWS_GO_INTO_THE_SOURCE)


def _text(path: Path) -> str:
    name = str(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(Problem("there is no such config file", name)) from None
    except IsADirectoryError:
        raise ConfigError(Problem("is a directory, not a config file", name)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(Problem(f"the config cannot be read: {reason}", name)) from None


def _parse(text: str, origin: Origin) -> tuple[list[Problem], Any]:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            advice = "it needs at least name and request.model"
            return [Problem("the config is empty", origin.file, advice)], None
        # Mark first: constructing the data flattens merge keys into the nodes.
        wrong = list(_Marker(origin).mark(node, ()))
        return wrong, None if wrong else loader.construct_document(node)
    finally:
        loader.dispose()


class _Marker:
    """Visits each node once, so that an alias costs the same however often it is used."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._visited: set[int] = set()
        self._above: set[int] = set()

    def mark(self, node: yaml.Node, path: Path_) -> Iterator[Problem]:
        """Note the line of every key and item. Yields keys that are given twice or are not strings."""
        if id(node) in self._above:
            where = f"{self._origin.file}:{node.start_mark.line + 1}"
            yield Problem(f"{dotted(path)} contains itself through an alias", where)
        if id(node) in self._visited:
            return
        self._visited.add(id(node))
        self._above.add(id(node))
        yield from self._mark_inside(node, path)
        self._above.discard(id(node))

    def _mark_inside(self, node: yaml.Node, path: Path_) -> Iterator[Problem]:
        if isinstance(node, yaml.MappingNode):
            yield from self._mark_mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._origin.lines[(*path, index)] = value.start_mark.line + 1
                yield from self.mark(value, (*path, index))

    def _mark_mapping(self, node: yaml.MappingNode, path: Path_) -> Iterator[Problem]:
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            where = f"{self._origin.file}:{line}"
            if not isinstance(key, yaml.ScalarNode):
                yield Problem("is not YAML that a config can hold: a key must be a word", where)
                continue
            if key.tag not in _STRINGS:
                yield Problem(f"the key {name!r} is not a string", where, "quote it")
            elif name in seen and key.tag != _MERGE:
                yield Problem(f"{dotted((*path, name))} is given twice", where)
            seen.add(name)
            self._origin.lines[(*path, name)] = line
            yield from self.mark(value, (*path, name))
