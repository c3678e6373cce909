"""Imports run down the list of rooms only, and the command line imports nothing heavy before it must."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "runner"

# From the top to the ground: a room may import from the floors below its own, and from no sibling.
FLOORS = (
    ("__main__",), ("cli",), ("commands",), ("engine",), ("background", "batch"), ("session",), ("report",),
    ("measure",), ("store",), ("transport",), ("source",), ("policy",), ("simulator",), ("config",),
    ("records",), ("errors",), ("streams",), ("__init__",),
)  # fmt: skip
ROOMS = tuple(room for floor in FLOORS for room in floor)
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
def test_imports_run_down_the_list(path: Path) -> None:
    room = room_of(path)
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    allowed = {room}.union(*FLOORS[floor + 1 :])
    assert imports_of(path) <= allowed, f"{path} imports from above, or from a sibling"


def test_every_room_is_on_the_list() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms == set(ROOMS)


def test_the_simulator_shares_only_records_errors_and_settings_with_the_client() -> None:
    for path in (PACKAGE / "simulator").rglob("*.py"):
        assert imports_of(path) <= SIMULATOR_MAY_SHARE, path


HEAVY = {"aiohttp", "asyncio", "httpx2", "jinja2", "openai", "ssl", "tqdm", "uvloop"}


def imported_by(*arguments: str) -> set[str]:
    """Return the names of the top-level modules that a command imports."""
    script = (
        "import sys, runner.cli\n"
        "try: runner.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_help_imports_no_http_and_no_config_library() -> None:
    assert not imported_by("--help") & (HEAVY | {"msgspec", "pydantic", "yaml"})


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_config_error_is_reported_without_importing_what_a_run_needs(tmp_path: Path, command: str) -> None:
    (tmp_path / "bad.yaml").write_text("nam: x\n")
    found = imported_by(command, str(tmp_path / "bad.yaml"))
    assert "pydantic" in found
    assert not found & HEAVY
