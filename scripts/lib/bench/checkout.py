"""A checkout whose runner is measured: this one, or another one with an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

PACKAGES: Final = ("openai", "aiohttp", "uvloop", "msgspec")
"""Packages whose versions change what a job costs."""
_DESCRIBE = """
import json, platform, sys
from importlib.metadata import version
import runner
python = f"{platform.python_implementation()} {platform.python_version()}"
versions = ", ".join(f"{name} {version(name)}" for name in sys.argv[1:])
print(json.dumps({"package": runner.__file__, "software": f"{python}, {versions}"}))
"""


class Checkout(msgspec.Struct, frozen=True):
    """A directory with the source of the runner, and the interpreter that runs it."""

    root: Path
    python: Path

    def command(self, *arguments: str) -> list[str]:
        """Return the command `runner` of this checkout, to be started with `env`."""
        return [str(self.python), "-m", "runner", *arguments]

    @property
    def env(self) -> dict[str, str]:
        """Environment in which `runner` is the one of this checkout, whatever is installed."""
        return {**os.environ, "PYTHONPATH": str(self.root), "PYTHONSAFEPATH": "1"}

    def software(self) -> str:
        """Return the versions of Python and of the packages that matter.

        Raises SystemExit if the checkout's interpreter does not run the checkout's own runner.
        """
        done = subprocess.run(
            [str(self.python), "-c", _DESCRIBE, *PACKAGES],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{self.python} cannot import the runner of {self.root}:\n{done.stderr}")
        found = json.loads(done.stdout)
        if not Path(found["package"]).resolve().is_relative_to(self.root):
            raise SystemExit(f"{self.python} imports {found['package']}, not the runner of {self.root}")
        return str(found["software"])

    def commit(self) -> str:
        """Return the name of the checked out commit, with `-dirty` if files were changed."""
        command = ["git", "-C", str(self.root), "describe", "--always", "--dirty"]
        with suppress(OSError):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return done.stdout.strip() or "unknown"
        return "unknown"


HERE: Final = Checkout(root=Path(__file__).resolve().parents[3], python=Path(sys.executable))
"""The checkout that this file is in."""


def other_checkout(directory: Path) -> Checkout:
    """Return the checkout in a directory. Raises SystemExit if it has no environment in `.venv`."""
    root = directory.resolve()
    python = root / ".venv" / "bin" / "python"
    if not (root / "runner").is_dir():
        raise SystemExit(f"{directory} is no checkout of the runner: it has no folder `runner`")
    if not python.exists():
        raise SystemExit(f"{directory} has no environment: run {directory}/scripts/quickstart first")
    return Checkout(root=root, python=python)
