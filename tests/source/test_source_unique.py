"""Ids come once: found exactly, named with both lines, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runner.source
from runner.source import Source, unique
from runner.source.unique import Seen, digest


def test_a_duplicate_id_is_told_with_both_lines(wrong: Callable[..., list[str]]) -> None:
    said = wrong('{"custom_id": "a", "input": "x"}\n{"input": "x"}\n\n{"custom_id": "a", "input": "y"}\n')

    assert said == ["in.jsonl:4: custom_id 'a' is already that of in.jsonl:1"]


def test_an_own_id_may_clash_with_a_made_one(wrong: Callable[..., list[str]]) -> None:
    said = wrong('{"custom_id": "row-1", "input": "x"}\n{"input": "x"}\n')

    assert said == ["in.jsonl:2: custom_id 'row-1' is already that of in.jsonl:1"]


def test_duplicates_are_found_across_files_and_each_repetition_names_the_first(
    wrong: Callable[..., list[str]],
) -> None:
    Path("a.part").write_text('{"custom_id": "x", "input": "1"}\n')
    Path("b.part").write_text('{"custom_id": "y", "input": "1"}\n{"custom_id": "x", "input": "1"}\n')
    Path("c.part").write_text('{"custom_id": "x", "input": "1"}')

    assert wrong(None, path="*.part") == [
        "b.part:2: custom_id 'x' is already that of a.part:1",
        "c.part:1: custom_id 'x' is already that of a.part:1",
    ]


def test_duplicates_and_bad_rows_are_told_together(wrong: Callable[..., list[str]]) -> None:
    said = wrong('{"custom_id": "a", "input": "x"}\n{"input": ""}\n{"custom_id": "a", "input": "x"}\n')

    assert any("its input is empty" in line for line in said)
    assert any(line.startswith("in.jsonl:3: custom_id 'a'") for line in said)


def test_duplicates_are_found_when_ids_were_spilled_to_disk(
    wrong: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.source, "Seen", lambda: Seen(chunk_ids=3))
    rows = [f'{{"custom_id": "id-{n}", "input": "x"}}' for n in [*range(20), 4, *range(20, 30), 29]]

    assert wrong("\n".join(rows)) == [
        "in.jsonl:21: custom_id 'id-4' is already that of in.jsonl:5",
        "in.jsonl:32: custom_id 'id-29' is already that of in.jsonl:31",
    ]


def test_ids_that_only_share_a_digest_are_no_duplicates(
    source: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(custom_id: str) -> int:
        return len(custom_id)

    monkeypatch.setattr(unique, "digest", coarse)
    monkeypatch.setattr(runner.source, "digest", coarse)

    assert source("".join(f'{{"custom_id": "{c}", "input": "x"}}\n' for c in "abcdef")).survey().rows == 6


def test_a_true_duplicate_is_found_among_ids_that_share_its_digest(
    wrong: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unique, "digest", len)
    monkeypatch.setattr(runner.source, "digest", len)

    assert wrong("".join(f'{{"custom_id": "{c}", "input": "x"}}\n' for c in "abca")) == [
        "in.jsonl:4: custom_id 'a' is already that of in.jsonl:1"
    ]


def test_a_file_of_nothing_but_duplicates_does_not_fill_the_screen(wrong: Callable[..., list[str]]) -> None:
    said = wrong('{"custom_id": "a", "input": "x"}\n' * 5000)

    assert said == [
        "in.jsonl:2: custom_id 'a' is already that of in.jsonl:1 (and 19 more rows like it)",
        "and perhaps more",
    ]


@given(ids=st.lists(st.text(max_size=2), max_size=60), chunk_ids=st.integers(1, 7))
@settings(deadline=None)
def test_exactly_the_ids_that_came_twice_are_found(ids: Any, chunk_ids: Any) -> None:
    with Seen(chunk_ids) as seen:
        for custom_id in ids:
            seen.add(custom_id)
        found = seen.doubled(1000)

    assert found == {digest(custom_id) for custom_id, count in Counter(ids).items() if count > 1}


def test_no_more_duplicates_are_gathered_than_asked_for() -> None:
    with Seen(chunk_ids=10) as seen:
        for n in range(200):
            seen.add(str(n % 100))
        assert len(seen.doubled(5)) == 5


@pytest.mark.parametrize("custom_id", ["", "é", "\ud800", "x" * 10_000])
def test_every_text_has_a_digest_of_64_bits(custom_id: str) -> None:
    assert 0 <= digest(custom_id) < 2**64


def test_a_million_ids_are_checked_in_a_few_megabytes() -> None:
    program = (
        "import resource\n"
        "from runner.source.unique import Seen\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with Seen() as seen:\n"
        "    for n in range(300_000): seen.add(f'row-{n}')\n"
        "    small = peak()\n"
        "    for n in range(300_000, 1_000_000): seen.add(f'row-{n}')\n"
        "    seen.add('row-77')\n"
        "    found = seen.doubled(20)\n"
        "print(len(found), peak() - small)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found, grown_kb = map(int, ran.stdout.split())

    assert found == 1
    if sys.platform == "linux":
        assert grown_kb < 10_000  # a set of these ids would take 100 MB
