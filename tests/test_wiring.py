"""The wiring rule: listeners are constructor arguments without defaults, and `Session` connects every one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).resolve().parents[1] / "runner"
FILES: Final = sorted(PACKAGE.rglob("*.py"))
ROOMS: Final = ("session", "background", "batch")
"""Rooms of the parts that a session connects."""
ROOTS: Final = ("Session", "BackgroundMode", "CancelMode", "BatchMode")
"""The session, and the modes that are made for it."""
LISTENER: Final = re.compile(r"_?on_[a-z_]+$")
NO_LISTENERS: Final = ("on_existing", "on_uncertain")
"""Keys of the config."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def is_listener(name: str) -> bool:
    return bool(LISTENER.match(name)) and name not in NO_LISTENERS


def attributes_assigned(node: ast.AST) -> Iterator[tuple[ast.Attribute, ast.expr | None]]:
    """Yield each attribute that is assigned below a node, and the value."""
    for inner in ast.walk(node):
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        match inner:
            case ast.Assign():
                targets, value = inner.targets, inner.value
            case ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr() | ast.For():
                targets = [inner.target]
                value = inner.value if isinstance(inner, ast.AnnAssign) else None
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Attribute) and is_listener(part.attr):
                    yield part, value


def own_listeners(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Yield each assignment of the kind `self._on_x = on_x` in a constructor that has a parameter `on_x`."""
    for cls in ast.walk(tree):
        if not isinstance(cls, ast.ClassDef):
            continue
        for function in cls.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                parameters = {parameter.arg for parameter, _ in parameters_of(function)}
                for target, value in attributes_assigned(function):
                    is_on_self = isinstance(target.value, ast.Name) and target.value.id == "self"
                    if is_on_self and isinstance(value, ast.Name) and value.id in parameters:
                        yield target


def parameters_of(function: Function) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """Yield each parameter and its default."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = len(positional) - len(arguments.defaults)
    yield from zip(positional, [*[None] * missing, *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_listener_is_never_assigned_but_to_its_owner_in_its_constructor(path: Path) -> None:
    tree = tree_of(path)
    own = {(target.lineno, target.col_offset) for target in own_listeners(tree)}
    found = [
        f"{name_of(path)}:{target.lineno}: {ast.unparse(target)}"
        for target, _ in attributes_assigned(tree)
        if (target.lineno, target.col_offset) not in own
    ]
    found += [
        f"{name_of(path)}:{call.lineno}: setattr"
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "setattr"
        and any(isinstance(it, ast.Constant) and is_listener(str(it.value)) for it in call.args)
    ]
    assert not found, f"a callback is assigned into another object: {found}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_listener_is_never_a_parameter_with_a_default(path: Path) -> None:
    found = {
        (name_of(path), parameter.arg)
        for function in ast.walk(tree_of(path))
        if isinstance(function, Function)
        for parameter, default in parameters_of(function)
        if default is not None and is_listener(parameter.arg)
    }
    assert not found, "a wire that is forgotten would be silent"


@dataclass
class Part:
    """One class of the rooms: what its constructor must be given, and what it constructs itself."""

    name: str
    listeners: set[str] = field(default_factory=set)
    bases: list[str] = field(default_factory=list)
    constructs: list[tuple[str, set[str]]] = field(default_factory=list)
    """Class and keywords of every construction in it; that of a base through `super()` included."""


def parts() -> dict[str, Part]:
    """Return all classes of the rooms by name."""
    found: dict[str, Part] = {}
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            for cls in ast.walk(tree_of(path)):
                if isinstance(cls, ast.ClassDef):
                    assert cls.name not in found, f"two classes are called {cls.name}"
                    found[cls.name] = part_of(cls)
    return found


def part_of(cls: ast.ClassDef) -> Part:
    part = Part(cls.name, bases=[name for base in cls.bases if (name := called(base))])
    for function in cls.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            part.listeners = {it.arg for it, _ in parameters_of(function) if is_listener(it.arg)}
    for node in ast.walk(cls):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg for keyword in node.keywords if keyword.arg}
        if is_super_constructor(node):
            part.constructs += [(base, keywords) for base in part.bases]
        elif (name := called(node.func)) is not None:
            part.constructs.append((name, keywords))
    return part


def called(function: ast.expr) -> str | None:
    """Return the name of a class that is called or inherited from, without its type arguments."""
    if isinstance(function, ast.Subscript):
        function = function.value
    return function.id if isinstance(function, ast.Name) else None


def is_super_constructor(call: ast.Call) -> bool:
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "__init__"
        and isinstance(function.value, ast.Call)
        and called(function.value.func) == "super"
    )


def reached(all_parts: dict[str, Part]) -> set[str]:
    """Return the classes that are constructed by the roots, or by what they construct."""
    found: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name in all_parts and name not in found:
            found.add(name)
            waiting += [inner for inner, _ in all_parts[name].constructs]
    return found


def test_from_the_session_every_class_with_a_listener_is_reached() -> None:
    all_parts = parts()
    with_listeners = {name for name, part in all_parts.items() if part.listeners}
    assert len(with_listeners) > 8, "the walk finds no listeners"
    assert with_listeners <= reached(all_parts), "nobody constructs it on the way from `Session`"


@pytest.mark.parametrize("name", sorted(name for name, part in parts().items() if part.listeners))
def test_every_listener_is_passed_by_keyword_wherever_its_class_is_constructed(name: str) -> None:
    all_parts = parts()
    constructions = [
        keywords
        for user in reached(all_parts)
        for constructed, keywords in all_parts[user].constructs
        if constructed == name
    ]
    assert constructions
    for keywords in constructions:
        assert all_parts[name].listeners <= keywords
