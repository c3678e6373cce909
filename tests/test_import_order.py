"""The house: imports run down this list only, and the command line imports nothing heavy before it must."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "runner"

# From the top of the house to its ground: a room may import from rooms below it.
ROOMS = (
    "__main__", "cli", "engine", "report", "pipeline", "measure", "store", "transport", "source",
    "policy", "simulator", "config", "records", "errors", "streams", "__init__",
)  # fmt: skip
SIMULATOR_MAY_SHARE = {"simulator", "config", "records", "errors", "__init__"}


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names = [node.module or ""]
            if node.module == "runner":
                names = [f"runner.{alias.name}" for alias in node.names]
        for name in names:
            if name == "runner" or name.startswith("runner."):
                part = name.split(".")[1] if "." in name else "__init__"
                found.add(part if part in ROOMS else "__init__")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_down_the_house(path: Path) -> None:
    room = room_of(path)
    above = set(ROOMS[: ROOMS.index(room)])
    assert not imports_of(path) & above, f"{path} reaches up"


def test_every_room_is_on_the_list() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms == set(ROOMS)


def test_the_simulator_shares_nothing_with_the_client_but_records_errors_and_settings() -> None:
    for path in (PACKAGE / "simulator").rglob("*.py"):
        assert imports_of(path) <= SIMULATOR_MAY_SHARE, path


def test_help_imports_no_http_and_no_config_library() -> None:
    script = (
        "import sys, runner.cli\n"
        "try: runner.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'openai', 'pydantic', 'uvloop', 'tqdm', 'msgspec', 'jinja2', 'yaml'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
