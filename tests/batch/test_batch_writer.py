"""A batch that is written to a file: its bytes, their number, its names and its key."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.names import wire_id
from runner.batch.submission import BatchSubmission
from runner.batch.writer import BatchWriter, batch_key
from runner.records import Request

LARGE = 1_000_000
Drawn: TypeAlias = list[tuple[int, str, dict[str, str | int | None]]]
"""For each row: how far it is above the one before, the beginning of its id, and its params."""
PARAMS = st.dictionaries(
    st.text(max_size=4), st.text(max_size=12) | st.integers(-(2**53), 2**53) | st.none(), max_size=3
)
ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.text(min_size=1, max_size=8), PARAMS), min_size=1, max_size=12
)


def requests_of(drawn: Drawn) -> list[Request]:
    """Return requests in rising order, each with an id of its own."""
    made, row = [], -1
    for step, name, params in drawn:
        row += step
        body = json.dumps(params, ensure_ascii=False).encode("utf-8", "surrogatepass")
        made.append(Request(row=row, custom_id=f"{name}{row}", body=body, kind="m"))
    return made


def request(row: int, body: bytes = b'{"model":"m"}', custom_id: str | None = None) -> Request:
    return Request(row=row, custom_id=custom_id or f"row-{row}", body=body, kind=f"kind of {row}")


@contextmanager
def writing(folder: Path, max_bytes: int = LARGE, hard_bytes: int | None = None) -> Iterator[BatchWriter]:
    with BatchWriter(folder / "body", "run", 7, "label-1", max_bytes, hard_bytes) as writer:
        yield writer


def content_of(batch: BatchSubmission) -> bytes:
    assert batch.body is not None
    return batch.body.read_bytes()


@settings(max_examples=60)
@given(ROWS)
def test_the_bytes_are_the_json_of_all_requests_and_the_batch_describes_them(drawn: Drawn) -> None:
    requests = requests_of(drawn)
    with tempfile.TemporaryDirectory() as folder:
        with writing(Path(folder)) as writer:
            assert all(map(writer.add, requests))
            assert writer.count == len(requests)
            batch = writer.finish(due=5.0)
        content = content_of(batch)
    assert len(content) == batch.size_bytes
    names: dict[str, int] = {}
    meant = []
    for it in requests:
        name = wire_id(it.custom_id, names)
        names[name] = it.row
        meant.append({"custom_id": name, "params": json.loads(it.body)})
    assert json.loads(content) == {"endpoint": "/v1/responses", "label": "label-1", "requests": meant}
    assert batch.names.rows == names
    assert [batch.names.custom_id(name) for name in names] == [it.custom_id for it in requests]
    assert [row for part in batch.ranges for row in part] == [it.row for it in requests]
    assert batch.key == batch_key("run", "label-1", hashlib.sha256(content).digest())
    assert (batch.number, batch.count, batch.due, batch.kind) == (7, len(requests), 5.0, "m")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_batch_of_exactly_max_bytes_fits_and_with_one_byte_more_it_does_not(
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


def test_a_single_request_may_have_hard_bytes(tmp_path: Path) -> None:
    with writing(tmp_path, max_bytes=150, hard_bytes=400) as writer:
        assert not writer.add(request(0, b'"' + b"x" * 400 + b'"'))
        assert writer.add(request(1, b'"' + b"x" * 200 + b'"'))
        assert not writer.add(request(2))
        assert writer.finish(0.0).size_bytes > 150


def test_a_request_that_did_not_fit_leaves_no_trace_and_a_smaller_one_still_fits(tmp_path: Path) -> None:
    with writing(tmp_path, max_bytes=300) as writer:
        assert writer.add(request(0))
        assert not writer.add(request(1, b'"' + b"x" * 300 + b'"'))
        assert writer.add(request(2))
        batch = writer.finish(0.0)
    content = json.loads(content_of(batch))
    assert [it["custom_id"] for it in content["requests"]] == list(batch.names.rows) == ["row-0", "row-2"]
    assert batch.ranges == [range(1), range(2, 3)]
    assert batch.kind == "kind of 0"


@pytest.mark.parametrize("row", [0, 3, 5])
def test_a_row_that_is_not_above_all_others_is_not_added(tmp_path: Path, row: int) -> None:
    with writing(tmp_path) as writer:
        assert writer.add(request(5))
        assert not writer.add(request(row, custom_id="other"))
        assert writer.add(request(6))
        assert writer.finish(0.0).ranges == [range(5, 7)]


def test_ids_that_would_be_equal_at_the_service_stay_different(tmp_path: Path) -> None:
    made = wire_id("Zoë")
    with writing(tmp_path) as writer:
        for row, own in enumerate([made, "Zoë", f"{made}-2", "Zoë 2"]):
            assert writer.add(request(row, custom_id=own))
        batch = writer.finish(0.0)
    assert list(batch.names.rows.values()) == [0, 1, 2, 3]
    assert [batch.names.custom_id(name) for name in batch.names.rows] == [made, "Zoë", f"{made}-2", "Zoë 2"]


def test_a_body_that_was_not_finished_is_removed(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        writer.add(request(0))
    assert not list(tmp_path.iterdir())


def test_a_key_belongs_to_one_run_one_label_and_one_body() -> None:
    key = batch_key("r", "l", b"1")
    assert key == batch_key("r", "l", b"1")
    assert len(key) == 64
    assert len({key, batch_key("r2", "l", b"1"), batch_key("r", "l2", b"1"), batch_key("r", "l", b"2")}) == 4
