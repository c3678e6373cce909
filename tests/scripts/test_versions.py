"""Tests of scripts/check-versions: which interpreters it finds, and which versions it asks pip for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scripts.lib.versions.__main__ import Environment, plan, write_constraints
from scripts.lib.versions.constraints import lowest_versions
from scripts.lib.versions.interpreters import find_interpreters, version_of


def _interpreter(directory: Path, name: str, version: str) -> Path:
    """Write a script that reports a version as an interpreter does."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\necho {version.replace('.', ' ')}\n")
    path.chmod(0o755)
    return path


def test_each_minor_version_from_3_11_on_is_found_once_in_path_or_below_pyenv_root(tmp_path: Path) -> None:
    first = _interpreter(tmp_path / "a", "python3.12", "3.12")
    _interpreter(tmp_path / "b", "python3.12", "3.12")
    _interpreter(tmp_path / "b", "python3.10", "3.10")
    _interpreter(tmp_path / "b", "python3.12-config", "3.12")
    pyenv = _interpreter(tmp_path / "pyenv" / "versions" / "3.13.0" / "bin", "python3.13", "3.13")
    path = os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none")])

    assert find_interpreters({"PATH": path}) == {(3, 12): first}
    found = find_interpreters({"PATH": path, "PYENV_ROOT": str(tmp_path / "pyenv")})
    assert found == {(3, 12): first, (3, 13): pyenv}


def test_an_interpreter_that_does_not_start_is_passed_over(tmp_path: Path) -> None:
    stub = tmp_path / "python3.12"
    stub.write_text("#!/bin/sh\nexit 127\n")
    stub.chmod(0o755)
    assert version_of(stub) is None
    assert version_of(tmp_path / "python3.13") is None
    assert version_of(Path(sys.executable)) == sys.version_info[:2]


def test_lowest_versions_are_the_lower_bounds_of_all_dependencies_and_of_the_extra_test(
    tmp_path: Path,
) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        "[project]\n"
        'dependencies = ["aiohttp>=3.14.4,<3.15", "openai[aiohttp]>=3.54,<4"]\n'
        "[project.optional-dependencies]\n"
        'test = ["pytest>=9", "types-tqdm>=4.67.0.20241119"]\n'
        'bench = ["matplotlib"]\n'
    )
    assert lowest_versions(pyproject) == [
        "aiohttp==3.14.4",
        "openai==3.54",
        "pytest==9",
        "types-tqdm==4.67.0.20241119",
    ]


def test_a_requirement_without_a_lower_bound_is_an_error(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\ndependencies = ["tqdm"]\n[project.optional-dependencies]\ntest = []\n')
    with pytest.raises(ValueError, match='"tqdm" has no lower bound'):
        lowest_versions(pyproject)


def test_the_lowest_versions_are_tried_with_the_oldest_python_and_the_newest_with_all_others(
    tmp_path: Path,
) -> None:
    interpreters = {(3, 11): Path("a"), (3, 12): Path("b"), (3, 13): Path("c")}
    constraints = write_constraints(tmp_path)
    assert plan(interpreters, (3, 12), constraints) == [
        Environment("lowest", Path("a"), constraints),
        Environment("3.11", Path("a")),
        Environment("3.13", Path("c")),
    ]
    assert constraints.read_text().startswith("aiohttp==")
