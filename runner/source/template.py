"""Jinja templates over a row's fields: sandboxed, and strict about fields that are not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.errors import ConfigError, Problem

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


class FieldError(Exception):
    """A template cannot be rendered for one row; the text says why."""


class Template:
    """One template of the config. `name` is its path there, for messages."""

    def __init__(self, text: str, name: str) -> None:
        try:
            self.fields = frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(text)))
            self._render = _ENVIRONMENT.from_string(text).render
        except TemplateSyntaxError as error:
            raise ConfigError(
                Problem(f"{name} is not a template: {error.message} (its line {error.lineno})")
            ) from None
        self.name = name

    def render(self, i: int, fields: Mapping[str, Any]) -> str:
        """The text for row `i`. Fields stand under their own names, all of them also under `row`.

        Raises `FieldError`. A template is a user's code, so whatever it raises is the row's error.
        """
        try:
            return self._render({"i": i, "row": fields, **fields})
        except UndefinedError as error:
            known = ", ".join(sorted(map(str, {*fields, "i"}))[:12])
            raise FieldError(f"{self.name}: {error.message}; the row has: {known}") from None
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as error:
            raise FieldError(f"{self.name}: {type(error).__name__}: {error}") from None
