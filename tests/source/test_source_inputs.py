"""Files of JSON lines: which, in what order, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InputError, StoppedEarly
from runner.source import Source, inputs


def test_blank_lines_are_no_rows_but_are_counted_as_lines(source: Callable[..., Source]) -> None:
    made = source('\n  \n{"input": "x"}\n\t\n\r\n{"input": "y"}\n\n')
    lines = [line for block in made.blocks() for line in block]

    assert [(line.i, line.where) for line in lines] == [(0, "in.jsonl:3"), (1, "in.jsonl:6")]


def test_a_byte_order_mark_windows_line_ends_and_no_last_newline_are_accepted(
    bodies: Callable[..., list[dict[str, Any]]],
) -> None:
    made = bodies(b'\xef\xbb\xbf{"input": "x"}\r\n{"input": "y"}\r\n{"input": "z"}')

    assert [body["input"] for body in made] == ["x", "y", "z"]


def test_a_line_separator_inside_a_text_does_not_end_the_row(
    bodies: Callable[..., list[dict[str, Any]]],
) -> None:
    assert bodies('{"input": "a\u2028b\x85c"}\n')[0]["input"] == "a\u2028b\x85c"


def test_a_torn_last_line_is_an_error_at_its_line(wrong: Callable[..., list[str]]) -> None:
    (said,) = wrong('{"input": "x"}\n{"input": "y')

    assert said.startswith("in.jsonl:2: is not JSON")


@pytest.mark.parametrize("content", ["", "\n \n", b"\xef\xbb\xbf"])
def test_input_without_rows_is_an_error(wrong: Callable[..., list[str]], content: bytes | str) -> None:
    assert "no rows" in wrong(content)[0]


def test_the_files_of_a_glob_come_in_the_order_of_their_names(source: Callable[..., Source]) -> None:
    for name in ("b", "a", "c"):
        Path(f"{name}.part").write_text(f'{{"input": "{name}1"}}\n{{"input": "{name}2"}}')
    made = source(None, path="?.part")
    lines = [line for block in made.blocks() for line in block]

    assert [line.where for line in lines] == [
        "a.part:1",
        "a.part:2",
        "b.part:1",
        "b.part:2",
        "c.part:1",
        "c.part:2",
    ]
    assert [line.i for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [made.request(line).custom_id for line in lines] == [f"row-{i}" for i in range(6)]


def test_a_glob_may_reach_into_folders_and_each_file_may_have_its_mark(source: Callable[..., Source]) -> None:
    Path("d/e").mkdir(parents=True)
    Path("d/x.jsonl").write_bytes(b'\xef\xbb\xbf{"input": "1"}\n')
    Path("d/e/y.jsonl").write_bytes(b'\xef\xbb\xbf{"input": "2"}\n')

    assert source(None, path="d/**/*.jsonl").survey().rows == 2


def test_a_file_that_is_not_there_is_told_with_where_paths_start(source: Callable[..., Source]) -> None:
    with pytest.raises(InputError, match=r"^none\.jsonl: .*no such.*current directory") as told:
        source(None, path="none.jsonl")
    assert told.value.exit_code == 2


def test_a_glob_that_fits_nothing_is_told_as_it_was_written(source: Callable[..., Source]) -> None:
    with pytest.raises(InputError, match=r"none-\*\.jsonl"):
        source(None, path="none-*.jsonl")


def test_a_directory_is_told_to_be_one(source: Callable[..., Source]) -> None:
    Path("folder").mkdir()
    with pytest.raises(InputError, match=r"^folder: is a directory"):
        source(None, path="folder")


def test_a_file_that_may_not_be_read_is_told(wrong: Callable[..., list[str]]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    Path("secret.jsonl").write_text('{"input": "x"}\n')
    Path("secret.jsonl").chmod(0)

    assert wrong(None, path="secret.jsonl")[0].startswith("secret.jsonl: the input cannot be read")


def test_no_more_than_a_bounded_number_of_rows_is_held_at_a_time(source: Callable[..., Source]) -> None:
    made = source('{"input": "x"}\n' * 100_000)
    sizes = [len(block) for block in made.blocks()]

    assert sum(sizes) == 100_000
    assert max(sizes) <= 2 * inputs.BLOCK_BYTES // len('{"input": "x"}\n')


def test_a_source_can_be_read_any_number_of_times(source: Callable[..., Source]) -> None:
    made = source('{"input": "x"}\n{"input": "y"}\n')

    assert list(made.blocks()) == list(made.blocks())
    assert made.survey() == made.survey()


def test_a_row_that_went_bad_after_it_was_checked_stops_the_run_with_its_place(
    source: Callable[..., Source],
) -> None:
    made = source('{"input": "x"}\n')
    made.survey()
    Path("in.jsonl").write_text('{"input": ""}\n')

    with pytest.raises(StoppedEarly, match=r"in\.jsonl:1: the input changed") as told:
        made.request(next(made.blocks())[0])
    assert told.value.exit_code == 3
