"""Finds the interpreters of this machine that the project supports."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

Version = tuple[int, int]

OLDEST: Final[Version] = (3, 11)
ANSWER_TIMEOUT_S: Final = 10.0
_ASK = "import sys, venv; print(*sys.version_info[:2])"


def find_interpreters(environ: Mapping[str, str] = os.environ) -> dict[Version, Path]:
    """Return one interpreter for each minor version from 3.11 on, the oldest version first.

    Looks for `python3.N` in PATH, and in the versions below PYENV_ROOT. An interpreter that does not start,
    such as a stub for a version that is not active, or that lacks the module venv, does not count.
    """
    found: dict[Version, Path] = {}
    for path in _candidates(environ):
        version = version_of(path)
        if version and version >= OLDEST:
            found.setdefault(version, path)
    return dict(sorted(found.items()))


def version_of(python: Path) -> Version | None:
    """Return the version that an interpreter reports; None if it does not start or has no module venv."""
    with suppress(OSError, subprocess.TimeoutExpired, ValueError):
        done = subprocess.run(
            [str(python), "-c", _ASK], capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=False
        )
        if done.returncode == 0:
            major, minor = map(int, done.stdout.split())
            return major, minor
    return None


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    directories = [Path(name) for name in environ.get("PATH", "").split(os.pathsep) if name]
    if environ.get("PYENV_ROOT"):
        directories += sorted(Path(environ["PYENV_ROOT"]).glob("versions/*/bin"))
    for directory in directories:
        yield from _named_by_version(directory)


def _named_by_version(directory: Path) -> Iterator[Path]:
    with suppress(OSError):
        for path in sorted(directory.glob("python3.*")):
            if re.fullmatch(r"python3\.\d+", path.name):
                yield path
