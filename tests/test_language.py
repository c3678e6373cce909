"""The language of docstrings and comments, as far as ruff's D rules do not hold it.

The words are those of the glossary in docs/architecture.md.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for room in ("runner", "scripts") for path in (ROOT / room).rglob("*.py"))

WORDS_WITH_A_BETTER_ONE = re.compile(
    r"\b(told|anew|afresh|brought home|so many|so much|ends so|ended so|under way|for ever|once more again)\b"
    r"|\b(too|else)[.;](\s|$)",
    re.IGNORECASE,
)
FRAGMENTS = re.compile(r"(Of|And|Nor|Told|Those|That|So|Else|It|They|What is|What was)\b|[a-z](?!\S*'s )")
"""Beginnings of a docstring that continue where a name or a neighbour stopped."""


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every docstring, those of attributes included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                text = statement.value.value
                if isinstance(text, str):
                    yield statement.lineno, text


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every docstring and comment of a file, each with its line."""
    yield from docstrings(ast.parse(path.read_text()))
    yield from comments(path)


def name_of(path: Path) -> str:
    """Return the path as a test id."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_docstrings_and_comments_use_the_words_of_the_glossary(path: Path) -> None:
    found = [
        f"{name_of(path)}:{line}: {match[0]!r} in {text.strip()[:80]!r}"
        for line, text in words_of(path)
        if (match := WORDS_WITH_A_BETTER_ONE.search(text))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_docstring_stands_alone(path: Path) -> None:
    found = []
    for line, text in docstrings(ast.parse(path.read_text())):
        first = text.strip().split("\n\n")[0]
        if FRAGMENTS.match(first):
            found.append(f"{name_of(path)}:{line}: begins in the middle of a thought: {first[:80]!r}")
        if not re.search(r"[.:?!)`…]$", text.strip()):
            found.append(f"{name_of(path)}:{line}: ends without a period: {text.strip()[-60:]!r}")
    assert not found, "\n".join(found)
