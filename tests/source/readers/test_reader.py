"""The table of readers: one for each type of source, imported when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import TypeAdapter

from runner.config.source import JsonLinesSource, Source, SyntheticSource
from runner.errors import InputError
from runner.source.readers import open_reader
from runner.source.readers.json_lines import JsonLines
from runner.source.readers.reader import _READERS
from runner.source.readers.synthetic import Synthetic


def test_every_type_of_source_has_a_reader() -> None:
    schema = TypeAdapter[Source](Source).json_schema()

    assert set(schema["discriminator"]["mapping"]) == set(_READERS)


def test_a_reader_is_chosen_by_the_type_of_the_source() -> None:
    assert isinstance(open_reader(SyntheticSource()), Synthetic)
    assert isinstance(open_reader(JsonLinesSource(type="jsonl", path=__file__)), JsonLines)


def test_a_missing_file_is_an_error_when_the_reader_is_opened() -> None:
    with pytest.raises(InputError, match="no such input file"):
        open_reader(JsonLinesSource(type="jsonl", path="nowhere.jsonl"))


def test_a_reader_is_imported_only_when_it_is_used() -> None:
    program = (
        "import sys\n"
        "import runner.source\n"
        "print(*[name for name in sys.modules if name.startswith('runner.source.readers.')])\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["runner.source.readers.reader"]
