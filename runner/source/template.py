"""Jinja templates over the fields of a row: sandboxed, and strict about missing fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.errors import ConfigError, Problem

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


_RENDER_ERRORS: Final = (
    TemplateError, ArithmeticError, AttributeError, TypeError, ValueError, LookupError, RecursionError,
)  # fmt: skip


class FieldError(Exception):
    """A template cannot be rendered for a row. The text says why."""


class Template:
    """A template of the config. `name` is its path there, for messages. Raises `ConfigError`."""

    def __init__(self, text: str, name: str) -> None:
        try:
            self.fields = _fields_of(_ENVIRONMENT.parse(text))
            template = _ENVIRONMENT.from_string(text)
        except TemplateSyntaxError as error:
            raise ConfigError(
                Problem(f"{name} is not a valid template: {error.message} (line {error.lineno} of it)")
            ) from None
        except (ArithmeticError, ValueError, RecursionError) as error:
            raise ConfigError(Problem(f"{name} is not a valid template: {error}")) from None
        template.globals = dict(template.globals)  # copied for each row; copying a ChainMap is slow
        self._render = template.render
        self.name = name

    def render(self, i: int, fields: Mapping[str, Any]) -> str:
        """Return the text for row `i`. Each field has its own name, and `row` has all of them.

        Raises `FieldError`. A template is the user's code: whatever it raises is an error of the row.
        """
        try:
            return self._render({**fields, "i": i, "row": fields})
        except UndefinedError as error:
            known = ", ".join(sorted(map(str, {*fields, "i"}))[:12])
            raise FieldError(f"{self.name}: {error.message}; the row has: {known}") from None
        except _RENDER_ERRORS as error:
            raise FieldError(f"{self.name}: {type(error).__name__}: {error}") from None


def _fields_of(tree: nodes.Template) -> frozenset[str]:
    """Return the names of the fields that a template uses, directly or through `row`."""
    fields = set(meta.find_undeclared_variables(tree))
    for attribute in tree.find_all(nodes.Getattr):
        if _is_row(attribute.node):
            fields.add(attribute.attr)
    for item in tree.find_all(nodes.Getitem):
        if _is_row(item.node) and isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str):
            fields.add(item.arg.value)
    return frozenset(fields)


def _is_row(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "row"
