"""Turns the lower bounds of pyproject.toml into constraints: pip has no option for lowest versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

EXTRA: Final = "test"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?>=(?P<lowest>[0-9][^,; ]*)(,<[^,; ]+)?")


def lowest_versions(pyproject: Path) -> list[str]:
    """Return a constraint `name==version` for every dependency of the project and of its extra `test`.

    Raises ValueError for a requirement without a lower bound.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"][EXTRA]]
    return [_lowest(requirement) for requirement in requirements]


def _lowest(requirement: str) -> str:
    found = _REQUIREMENT.fullmatch(requirement)
    if not found:
        raise ValueError(f'pyproject.toml: "{requirement}" has no lower bound; write "name>=lowest,<highest"')
    return f"{found['name']}=={found['lowest']}"
