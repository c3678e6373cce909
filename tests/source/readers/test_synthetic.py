"""The reader of generated rows."""

from __future__ import annotations

from runner.source.readers.synthetic import BLOCK_ROWS
from tests.source.making import synthetic


def test_generated_rows_are_numbered_questions_by_default() -> None:
    made = synthetic(count=3)
    requests = [made.request(row) for block in made.blocks() for row in block]

    assert made.survey().rows == 3
    assert [request.custom_id for request in requests] == ["row-0", "row-1", "row-2"]
    assert b"What is a fun fact about the number 2?" in requests[2].body
    assert requests[2].body.count(b"word ") >= 50


def test_a_synthetic_source_has_count_rows_and_100_by_default() -> None:
    assert synthetic().survey().rows == 100
    assert sum(map(len, synthetic(count=5000).blocks())) == synthetic(count=5000).survey().rows == 5000


def test_a_generated_row_has_no_fields_and_is_named_by_its_number() -> None:
    rows = [row for block in synthetic(count=3000).blocks() for row in block]

    assert [row.i for row in rows] == list(range(3000))
    assert rows[2345].where == "row 2345"
    assert rows[2345].fields() == {}


def test_a_bounded_number_of_generated_rows_is_held_at_a_time() -> None:
    assert max(map(len, synthetic(count=10_000).blocks())) <= BLOCK_ROWS
