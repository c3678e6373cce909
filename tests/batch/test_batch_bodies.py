"""The bytes of a batch: what they say, how many they are, and that the same rows make them again."""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.body import Body, item_of
from runner.batch.names import wire_id
from runner.batch.submission import Draft, Names, ranges_of
from runner.batch.writer import BatchWriter, batch_key
from runner.records import Request

LARGE = 1_000_000
PARAMS = st.dictionaries(
    st.text(max_size=4), st.text(max_size=12) | st.integers(-(2**53), 2**53) | st.none(), max_size=3
)
ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.text(min_size=1, max_size=8), PARAMS), min_size=1, max_size=12
)


def requests_of(drawn):
    """Of rows that rise by the steps drawn, with ids of their own."""
    made, row = [], -1
    for step, name, params in drawn:
        row += step
        body = json.dumps(params, ensure_ascii=False).encode("utf-8", "surrogatepass")
        made.append(Request(row=row, custom_id=f"{name}{row}", body=body, kind="m"))
    return made


def request(row, body=b'{"model":"m"}', custom_id=None):
    return Request(row=row, custom_id=custom_id or f"row-{row}", body=body, kind=f"kind of {row}")


@contextmanager
def writing(folder, max_bytes=LARGE, label="label-1"):
    with BatchWriter(Path(folder) / "body", "run", 7, label, max_bytes) as writer:
        yield writer


@settings(max_examples=60)
@given(ROWS)
def test_the_bytes_are_json_that_says_what_is_meant_and_are_as_many_as_was_said(drawn: Any) -> None:
    requests = requests_of(drawn)
    with tempfile.TemporaryDirectory() as folder:
        with writing(folder) as writer:
            assert all(map(writer.add, requests))
            assert writer.count == len(requests)
            draft = writer.finish(due=5.0)
        content = draft.body.read_bytes()
    assert len(content) == draft.size_bytes
    names, meant = {}, []
    for it in requests:
        name = wire_id(it.custom_id, names)
        names[name] = it.row
        meant.append({"custom_id": name, "params": json.loads(it.body)})
    assert json.loads(content) == {"endpoint": "/v1/responses", "label": "label-1", "requests": meant}
    assert draft.names.rows == names
    assert [draft.names.custom_id(name) for name in names] == [it.custom_id for it in requests]
    assert [row for part in draft.ranges for row in part] == [it.row for it in requests]
    assert draft.key == batch_key("run", "label-1", hashlib.sha256(content).digest())
    assert (draft.number, draft.count, draft.due, draft.kind) == (7, len(requests), 5.0, "m")


@settings(max_examples=60)
@given(st.text(max_size=9), st.lists(st.binary(max_size=20), max_size=8))
def test_a_body_measures_what_it_says_and_foresees_what_it_will_measure(label: Any, items: Any) -> None:
    body = Body(label)
    written = body.begin
    for item in items:
        foreseen = body.size_with(item)
        written += body.add(item)
        assert body.size_bytes == foreseen == len(written + body.end)
    assert body.count == len(items)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_batch_of_exactly_max_bytes_fits_and_with_a_byte_more_it_does_not(
    tmp_path: Path, count: int
) -> None:
    requests = [request(row, b'{"input":"' + b"x" * row + b'"}') for row in range(count)]
    with writing(tmp_path) as writer:
        assert all(map(writer.add, requests))
        size = writer.finish(0.0).size_bytes
    with writing(tmp_path, max_bytes=size) as writer:
        assert all(map(writer.add, requests))
        assert writer.finish(0.0).size_bytes == size == (tmp_path / "body").stat().st_size
    with writing(tmp_path, max_bytes=size - 1) as writer:
        assert [writer.add(it) for it in requests] == [True] * (count - 1) + [False]
        assert writer.count == count - 1


def test_what_did_not_fit_leaves_no_trace_and_a_smaller_one_still_fits(tmp_path: Path) -> None:
    with writing(tmp_path, max_bytes=300) as writer:
        assert writer.add(request(0))
        assert not writer.add(request(1, b'"' + b"x" * 300 + b'"'))
        assert writer.add(request(2))
        draft = writer.finish(0.0)
    content = json.loads(draft.body.read_bytes())
    assert [it["custom_id"] for it in content["requests"]] == list(draft.names.rows) == ["row-0", "row-2"]
    assert draft.ranges == [range(1), range(2, 3)]
    assert draft.kind == "kind of 0"


@pytest.mark.parametrize("row", [0, 3, 5])
def test_rows_must_rise(tmp_path: Path, row: int) -> None:
    with writing(tmp_path) as writer:
        assert writer.add(request(5))
        assert not writer.add(request(row, custom_id="other"))
        assert writer.add(request(6))
        assert writer.finish(0.0).ranges == [range(5, 7)]


def test_ids_that_become_alike_at_the_service_stay_two(tmp_path: Path) -> None:
    made = wire_id("Zoë")
    with writing(tmp_path) as writer:
        for row, own in enumerate([made, "Zoë", f"{made}-2", "Zoë 2"]):
            assert writer.add(request(row, custom_id=own))
        draft = writer.finish(0.0)
    assert list(draft.names.rows.values()) == [0, 1, 2, 3]
    assert [draft.names.custom_id(name) for name in draft.names.rows] == [made, "Zoë", f"{made}-2", "Zoë 2"]


def test_without_an_end_nothing_is_left_of_it(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        writer.add(request(0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("other", "same"),
    [({}, True), ({"run_id": "r2"}, False), ({"label": "l2"}, False), ({"body_sha256": b"2"}, False)],
)
def test_a_key_belongs_to_one_run_one_label_and_one_body(other: dict[str, Any], same: bool) -> None:
    one = {"run_id": "r", "label": "l", "body_sha256": b"1"}
    assert (batch_key(**one) == batch_key(**{**one, **other})) is same
    assert len(batch_key(**one)) == 64


@given(st.sets(st.integers(0, 40) | st.integers(0, 2**32 - 1), max_size=30))
def test_rows_come_back_from_the_ranges_that_stand_for_them(rows: Any) -> None:
    ranges = list(ranges_of(array("I", sorted(rows))))
    assert [row for part in ranges for row in part] == sorted(rows)
    assert all(one.stop < other.start for one, other in pairwise(ranges))
    assert all(ranges)


@given(st.sets(st.integers(0, 60), min_size=1, max_size=30), st.none() | st.floats(1, 9))
def test_what_is_written_down_of_a_draft_tells_its_rows(rows: Any, sent: Any) -> None:
    ranges = list(ranges_of(array("I", sorted(rows))))
    names = Names({f"row-{row}": row for row in sorted(rows)})
    draft = Draft(3, "l-3", "key", "m", names, ranges, 99, None, due=2.0, sent=sent)
    intent = draft.intent()
    assert [row for part in intent.ranges for row in part] == sorted(rows)
    assert intent.count == draft.count == len(rows)
    assert draft.first_row == min(rows)
    assert (intent.batch, intent.label, intent.key, intent.size_bytes) == (3, "l-3", "key", 99)
    assert intent.at == (sent or 2.0)


def test_an_item_is_a_custom_id_and_the_params_as_they_are() -> None:
    assert item_of("row-1", b'{"a": 1}') == b'{"custom_id":"row-1","params":{"a": 1}}'
