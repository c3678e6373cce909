"""The documentation is true: its links, file names, commands, config keys and configs."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final, NamedTuple, get_args

import pytest
import yaml
from pydantic import BaseModel

from runner.cli import _parser
from runner.config import RunConfig, load

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
GUIDES: Final = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages whose commands can be typed as they stand."""
FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE: Final = re.compile(r"`([^`\n]+)`")
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
FILE: Final = re.compile(r"(?<![\w./-])(?:\.ci|configs|docs|runner|scripts|tests)/[\w./-]*\w")
FILE_SUFFIXES: Final = (".jsonl", ".json", ".py", ".yaml")
COMMAND: Final = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(runner .*)$", re.MULTILINE)


class Place(NamedTuple):
    """Something that a page says, for a failure message."""

    page: str
    text: str


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the fenced blocks of a language; an empty one means no language."""
    for found in FENCE.finditer(page.read_text()):
        if found[1] == language:
            yield found[2]


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands() -> Iterator[Place]:
    """Yield the command lines of `runner` in the guides, from blocks and from sentences."""
    for page in GUIDES:
        for block in _blocks(page, ""):
            yield from (Place(_name(page), found[1]) for found in COMMAND.finditer(block))
        for code in INLINE.findall(_prose(page)):
            if code.startswith("runner "):
                yield Place(_name(page), code)


def _refusal(words: list[str]) -> str:
    """Return what the parser says of a wrong command line; a name alone only has to be that of a command."""
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            _parser().parse_args(words if len(words) > 1 else [*words, "--help"])
    except SystemExit:
        return said.getvalue()
    return ""


def _keys() -> Iterator[Place]:
    """Yield every dotted key in code that begins with a section of the config."""
    for page in PAGES:
        for code in INLINE.findall(_prose(page)):
            key = code.partition(":")[0].removesuffix(".*")
            is_key = re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key)
            if is_key and key.partition(".")[0] in RunConfig.model_fields and not key.endswith(FILE_SUFFIXES):
                yield Place(_name(page), key)
        for key in re.findall(r"--set ([a-z_.]+)=", page.read_text()):
            yield Place(_name(page), key)


def _is_key(keys: list[str], model: type[BaseModel] = RunConfig) -> bool:
    """Return whether the config has such a key; below a mapping, any name is one."""
    field = model.model_fields.get(keys[0])
    if field is None:
        return False
    candidates = (field.annotation, *get_args(field.annotation))
    sections = [it for it in candidates if isinstance(it, type) and issubclass(it, BaseModel)]
    return len(keys) == 1 or not sections or any(_is_key(keys[1:], section) for section in sections)


def _configs() -> Iterator[Place]:
    for page in PAGES:
        yield from (Place(_name(page), block) for block in _blocks(page, "yaml"))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    for target in LINK.findall(_prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    missing = [name for name in FILE.findall(page.read_text()) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("place", list(_commands()), ids=str)
def test_every_command_line_is_one_that_the_parser_accepts(place: Place) -> None:
    assert not _refusal(shlex.split(place.text.partition(">")[0], comments=True)[1:])


@pytest.mark.parametrize("place", sorted(set(_keys())), ids=str)
def test_every_config_key_exists(place: Place) -> None:
    assert _is_key(place.text.split("."))


@pytest.mark.parametrize("place", list(_configs()), ids=lambda place: place.page)
def test_every_config_is_valid(place: Place, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"name": "docs", **yaml.safe_load(place.text)}))
    load(config, environ={})


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_of_json_is_json(page: Path) -> None:
    for block in _blocks(page, "json"):
        json.loads(block)


def test_the_map_shows_every_room() -> None:
    # A folder without a module in it is what git leaves behind of a room that was renamed.
    rooms = {f"{page.parent.name}/" for page in (ROOT / "runner").glob("*/*.py")}
    rooms |= {page.name for page in (ROOT / "runner").glob("*.py") if not page.name.startswith("_")}
    assert rooms <= set(INLINE.findall((ROOT / "docs/architecture.md").read_text()))


def test_the_architecture_lists_every_decision() -> None:
    listed = set(LINK.findall((ROOT / "docs/architecture.md").read_text()))
    assert {f"decisions/{page.name}" for page in ROOT.glob("docs/decisions/*.md")} <= listed
