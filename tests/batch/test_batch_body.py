"""The bytes of a body: how many they are, and how one request is written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.body import Body, item_of


@settings(max_examples=60)
@given(st.text(max_size=9), st.lists(st.binary(max_size=20), max_size=8))
def test_a_body_knows_its_size_and_foresees_its_size_with_one_more_item(
    label: str, items: list[bytes]
) -> None:
    body = Body(label)
    written = body.begin
    for item in items:
        foreseen = body.size_with(item)
        written += body.add(item)
        assert body.size_bytes == foreseen == len(written + body.end)
    assert body.count == len(items)


def test_an_item_is_a_custom_id_and_the_params_as_they_are() -> None:
    assert item_of("row-1", b'{"a": 1}') == b'{"custom_id":"row-1","params":{"a": 1}}'
