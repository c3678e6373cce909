"""The check that ids are unique: exact, with both lines of a duplicate, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.source.unique import Seen, digest


@given(ids=st.lists(st.text(max_size=2), max_size=60), chunk_ids=st.integers(1, 7))
@settings(deadline=None)
def test_exactly_the_repeated_ids_are_found(ids: list[str], chunk_ids: int) -> None:
    with Seen(chunk_ids) as seen:
        for custom_id in ids:
            seen.add(custom_id)
        found = seen.duplicates(1000)

    assert found == {digest(custom_id) for custom_id, count in Counter(ids).items() if count > 1}


def test_no_more_duplicates_are_returned_than_requested() -> None:
    with Seen(chunk_ids=10) as seen:
        for n in range(200):
            seen.add(str(n % 100))
        assert len(seen.duplicates(5)) == 5


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
        "    found = seen.duplicates(20)\n"
        "print(len(found), peak() - small)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found, grown_kb = map(int, ran.stdout.split())

    assert found == 1
    if sys.platform == "linux":
        assert grown_kb < 10_000  # a set of these ids would take 100 MB
