"""The rooms of the simulator: http uses api, api uses service, and none of them reaches up."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SIMULATOR = Path(__file__).resolve().parents[2] / "runner" / "simulator"
MAY_IMPORT = {
    "service": {"service"},
    "api": {"api", "service"},
    "http": {"http", "api", "service"},
    "embedded": {"http"},
    "__init__": {"embedded", "http", "service"},
}
"""The rooms that each room or module on top may import from."""
MAY_IMPORT_OF_RUNNER = {"config", "errors", "records", "simulator"}
FILES = sorted(SIMULATOR.rglob("*.py"))


def module_of(path: Path) -> str:
    """Return the dotted name of a file below the simulator."""
    return ".".join(path.relative_to(SIMULATOR).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """Return the modules of the runner that a file imports, without the leading `runner.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("runner.") for name in found if name.split(".")[0] == "runner"}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_room_imports_only_from_the_rooms_below(path: Path) -> None:
    room = module_of(path).split(".")[0]
    imported = imports_of(path)
    assert {name.split(".")[0] for name in imported} <= MAY_IMPORT_OF_RUNNER
    rooms = {name.split(".")[1] for name in imported if name.startswith("simulator.")}
    assert rooms <= MAY_IMPORT[room], f"{path} reaches up"


def test_no_modules_import_each_other() -> None:
    modules = {f"simulator.{module_of(path)}" for path in FILES}
    graph = {}
    for path in FILES:
        names = imports_of(path)
        graph[f"simulator.{module_of(path)}"] = {
            module for module in modules for name in names if name == module or name.startswith(f"{module}.")
        }
    TopologicalSorter(graph).prepare()  # raises CycleError
