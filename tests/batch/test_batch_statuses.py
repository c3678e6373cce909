"""The map of statuses: in every form, the same requests are read from it as by a plain JSON decoder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.batch import statuses
from runner.batch.statuses import ended_in, words_in
from runner.records import done_status

ID = re.compile(r"[a-z0-9][a-z0-9_-]*")
Value: TypeAlias = Mapping[str, Mapping[str, object]]
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789_-"
IDS = st.text(ALPHABET, max_size=12).map(lambda rest: f"r{rest}") | st.integers(0, 99).map(str)
DONE = ["COMPLETED", "FAILED", "CANCELLED", "CANCELED", "EXPIRED", "INCOMPLETE"]
WORDS = st.sampled_from([
    *DONE, *map(str.lower, DONE), *map(str.title, DONE), "PENDING", "RUNNING", "queued", "in_progress",
    "WARMING_UP", "COMPLETED2", "NOT COMPLETED", 'COMPLETED"', "", "COMPLETED}",
    'a":{"status":"COMPLETED"}', "\\", "é",
])  # fmt: skip
EXTRA = st.dictionaries(
    st.sampled_from(["response_id", "x", "error", "at"]),
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
    | st.just({"status": "FAILED"}),
    max_size=2,
)
ENTRIES = st.builds(lambda word, extra: {"status": word, **extra}, WORDS, st.just({}) | EXTRA)
MAPS = st.dictionaries(IDS | st.text(max_size=6), ENTRIES, max_size=8)
PLAIN_MAPS = st.dictionaries(IDS, st.builds(lambda word: {"status": word}, WORDS), max_size=8)


def compact(value: Value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def spaced(value: Value) -> bytes:
    return json.dumps(value).encode()


def indented(value: Value) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def status_last(value: Value) -> bytes:
    return compact({name: dict(reversed(list(entry.items()))) for name, entry in value.items()})


def escaped_ids(value: Value) -> bytes:
    keys = {name: "".join(f"\\u{ord(char):04x}" for char in name if ord(char) < 0x10000) for name in value}
    return b"{%b}" % ",".join(f'"{keys[name]}":{json.dumps(it)}' for name, it in value.items()).encode()


def escaped_ids_compact(value: Value) -> bytes:
    return escaped_ids(value).replace(b'{"status": "', b'{"status":"')


def escaped_words(value: Value) -> bytes:
    return compact(value).replace(b'"COMPLETED"', b'"\\u0043OMPLETED"')


def airy(value: Value) -> bytes:
    return compact(value).replace(b'"}', b'" }').replace(b"},", b"},\n ")


FORMS = [compact, spaced, indented, status_last, escaped_ids, escaped_ids_compact, escaped_words, airy]


def read(text: bytes) -> list[tuple[str, str]]:
    """Return the done requests whose ids may be ours, as the module reads them."""
    return [it for piece in ended_in(msgspec.Raw(text)) for it in piece if ID.fullmatch(it[0])]


def plainly(text: bytes) -> list[tuple[str, str]]:
    """Return the same as `read`, by a plain JSON decoder."""
    found = ((name, done_status(entry["status"])) for name, entry in json.loads(text).items())
    return [(name, ended) for name, ended in found if ended is not None and ID.fullmatch(name)]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(MAPS | PLAIN_MAPS)
@example({})
@example({"a": {"status": "COMPLETED"}, "b": {"status": "completed"}, "c": {"status": "Completed"}})
@example({"a": {"status": "COMPLETED", "response_id": "resp_1"}, "b": {"status": "FAILED", "error": None}})
@example({"a": {"status": 'x":{"status":"COMPLETED"}', "x": "y"}, "b": {"status": "COMPLETED"}})
def test_requests_are_read_as_by_a_plain_json_decoder(form: Callable[[Value], bytes], value: Value) -> None:
    text = form(value)
    assert read(text) == plainly(text)


@settings(max_examples=60)
@given(PLAIN_MAPS, st.integers(1, 60))
def test_pieces_may_end_anywhere_without_losing_a_request(value: Value, piece_bytes: int) -> None:
    text = compact(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statuses, "PIECE_BYTES", piece_bytes)
        assert read(text) == plainly(text)


def test_a_large_map_comes_in_pieces_with_only_the_requests_that_are_done() -> None:
    value = {f"row-{n}": {"status": "COMPLETED" if n % 3 == 0 else "RUNNING"} for n in range(20_000)}
    pieces = list(ended_in(msgspec.Raw(compact(value))))
    assert len(pieces) > 3
    assert [it for piece in pieces for it in piece] == [
        (f"row-{n}", "completed") for n in range(0, 20_000, 3)
    ]


def test_an_entry_without_a_status_is_not_done() -> None:
    assert read(b'{"a":{},"b":{"status":"COMPLETED"}}') == [("b", "completed")]


@pytest.mark.parametrize(
    "text",
    [b"[]", b"null", b'"COMPLETED"', b"7", b"{", b'{"a":"COMPLETED"}', b'{"a":["COMPLETED"]}',
     b'{"a":{"status":3}}', b'{"a":{"status":{"status":"COMPLETED"}}}', b'{"a":{"status":"FAILED"}',
     b'{"a":{"b":{"status":"COMPLETED"}},"c":3}', b'["a":{"status":"FAILED"}]'],
)  # fmt: skip
def test_json_that_is_not_a_map_of_statuses_raises_a_decode_error(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(text)


def test_a_nested_status_belongs_to_no_request() -> None:
    assert read(b'{"a":{"b":{"status":"COMPLETED"}}}') == []


def test_words_are_counted_in_lower_case() -> None:
    text = compact(
        {"a": {"status": "RUNNING"}, "b": {"status": "running"}, "c": {"status": "FAILED"}, "d": {}}
    )
    assert words_in(msgspec.Raw(text)) == {"running": 2, "failed": 1, "": 1}
    with pytest.raises(msgspec.DecodeError):
        words_in(msgspec.Raw(b"[]"))
