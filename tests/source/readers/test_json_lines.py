"""Files of JSON lines: which, in what order, and how they are read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import InputError
from runner.source.readers import json_lines
from runner.source.readers.json_lines import JsonRow
from runner.source.row import RowError
from tests.source.making import Bodies, MakeSource, Problems


def test_blank_lines_are_not_rows_but_count_as_lines(source: MakeSource) -> None:
    made = source('\n  \n{"input": "x"}\n\t\n\r\n{"input": "y"}\n\n')
    rows = [row for block in made.blocks() for row in block]

    assert [(row.i, row.where) for row in rows] == [(0, "in.jsonl:3"), (1, "in.jsonl:6")]


def test_a_byte_order_mark_windows_line_ends_and_a_missing_last_newline_are_accepted(
    bodies: Bodies,
) -> None:
    made = bodies(b'\xef\xbb\xbf{"input": "x"}\r\n{"input": "y"}\r\n{"input": "z"}')

    assert [body["input"] for body in made] == ["x", "y", "z"]


def test_a_line_separator_inside_a_text_does_not_end_the_row(
    bodies: Bodies,
) -> None:
    assert bodies('{"input": "a\u2028b\x85c"}\n')[0]["input"] == "a\u2028b\x85c"


def test_a_torn_last_line_is_an_error_at_its_line(wrong: Problems) -> None:
    (problem,) = wrong('{"input": "x"}\n{"input": "y')

    assert problem.startswith("in.jsonl:2: is not JSON")


@pytest.mark.parametrize("content", ["", "\n \n", b"\xef\xbb\xbf"])
def test_input_without_rows_is_an_error(wrong: Problems, content: bytes | str) -> None:
    assert "no rows" in wrong(content)[0]


def test_the_files_of_a_glob_come_in_the_order_of_their_names(source: MakeSource) -> None:
    for name in ("b", "a", "c"):
        Path(f"{name}.part").write_text(f'{{"input": "{name}1"}}\n{{"input": "{name}2"}}')
    made = source(None, path="?.part")
    rows = [row for block in made.blocks() for row in block]

    assert [row.where for row in rows] == [
        "a.part:1",
        "a.part:2",
        "b.part:1",
        "b.part:2",
        "c.part:1",
        "c.part:2",
    ]
    assert [row.i for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [made.request(row).custom_id for row in rows] == [f"row-{i}" for i in range(6)]


def test_a_glob_may_reach_into_folders_and_each_file_may_have_a_byte_order_mark(source: MakeSource) -> None:
    Path("d/e").mkdir(parents=True)
    Path("d/x.jsonl").write_bytes(b'\xef\xbb\xbf{"input": "1"}\n')
    Path("d/e/y.jsonl").write_bytes(b'\xef\xbb\xbf{"input": "2"}\n')

    assert source(None, path="d/**/*.jsonl").survey().rows == 2


def test_a_missing_file_is_reported_with_the_base_of_paths(source: MakeSource) -> None:
    with pytest.raises(InputError, match=r"^none\.jsonl: .*no such.*current directory") as raised:
        source(None, path="none.jsonl")
    assert raised.value.exit_code == 2


def test_a_glob_without_a_match_is_reported_as_it_was_written(source: MakeSource) -> None:
    with pytest.raises(InputError, match=r"none-\*\.jsonl"):
        source(None, path="none-*.jsonl")


def test_a_directory_is_reported_as_one(source: MakeSource) -> None:
    Path("folder").mkdir()
    with pytest.raises(InputError, match=r"^folder: is a directory"):
        source(None, path="folder")


def test_an_unreadable_file_is_reported(wrong: Problems) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    Path("secret.jsonl").write_text('{"input": "x"}\n')
    Path("secret.jsonl").chmod(0)

    assert wrong(None, path="secret.jsonl")[0].startswith("secret.jsonl: the input cannot be read")


def test_a_bounded_number_of_rows_is_held_at_a_time(source: MakeSource) -> None:
    made = source('{"input": "x"}\n' * 100_000)
    sizes = [len(block) for block in made.blocks()]

    assert sum(sizes) == 100_000
    assert max(sizes) <= 2 * json_lines.BLOCK_BYTES // len('{"input": "x"}\n')


def test_text_that_is_not_utf_8_is_reported_with_its_line(wrong: Problems) -> None:
    (problem,) = wrong(b'{"input": "x"}\n{"input": "\xe9t\xe9"}\n')

    assert problem.startswith("in.jsonl:2: is not JSON")


@given(line=st.binary(max_size=60))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_an_object_or_a_row_error(line: bytes) -> None:
    row = JsonRow(0, line, "in.jsonl", 1)
    with suppress(RowError):
        assert isinstance(row.fields(), dict)


def test_a_row_is_decoded_only_when_its_fields_are_read(source: MakeSource) -> None:
    rows = [row for block in source("not json\n[]\n").blocks() for row in block]

    assert [row.where for row in rows] == ["in.jsonl:1", "in.jsonl:2"]
    for row in rows:
        with pytest.raises(RowError, match="is not"):
            row.fields()


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("rows.csv", "a,b\n", "CSV"),
        ("rows.TSV", "a\tb\n", "CSV"),
        ("rows.parquet", "PAR1\n", "Parquet"),
        ("rows.txt", "What is a semaphore?\n", "plain text"),
        ("rows.json", '{\n  "input": "x"\n}\n', "JSON over several lines"),
        ("rows.json", '[\n  {"input": "x"}\n]\n', "JSON over several lines"),
    ],
)
def test_a_file_of_another_format_is_recognised(
    source: MakeSource, wrong: Problems, name: str, content: str, format_: str
) -> None:
    source("")
    Path(name).write_text(content)

    assert wrong(None, path=name)[0] == (
        f"{name}:1: is not JSON: this looks like {format_}; source.type: jsonl reads one JSON object per line"
    )


def test_a_csv_file_that_is_json_lines_is_read(source: MakeSource) -> None:
    source("")
    Path("rows.csv").write_text('{"input": "x"}\n')

    assert source(None, path="rows.csv").survey().rows == 1
