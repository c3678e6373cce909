"""What `sink.store: text` keeps of a response."""

from __future__ import annotations

import msgspec
import pytest

from runner.store.reply_text import output_text, text_only


def cut(body: bytes) -> dict[str, object]:
    return msgspec.json.decode(text_only(msgspec.Raw(body)), type=dict[str, object])


def output_of(text: str) -> list[object]:
    return [{"type": "message", "content": [{"type": "output_text", "text": text}]}]


def test_a_response_keeps_id_status_model_text_usage_and_error() -> None:
    kept = {
        "id": "resp_1",
        "object": "response",
        "status": "incomplete",
        "model": "m",
        "usage": {"input_tokens": 3},
    }
    kept |= {"error": {"code": "c"}, "incomplete_details": {"reason": "r"}}
    whole = {**kept, "output": output_of("words"), "tools": [], "metadata": {"a": "b"}}

    assert cut(msgspec.json.encode(whole)) == {**kept, "output": output_of("words")}


def test_empty_fields_are_dropped_and_missing_ones_are_not_invented() -> None:
    assert cut(b'{"id": "resp_1", "error": null, "usage": {}}') == {"id": "resp_1", "output": output_of("")}


def test_a_number_that_is_too_large_for_a_float_does_not_stop_it() -> None:
    assert cut(b'{"id": "resp_1", "n": 1e999}') == {"id": "resp_1", "output": output_of("")}


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_cannot_be_understood_raises(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        text_only(msgspec.Raw(body))


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        (7, ""),
        ([], ""),
        ([*output_of("a"), *output_of("b")], "ab"),
        ([{"type": "reasoning", "summary": []}, *output_of("a")], "a"),
        ([{"content": [{"type": "refusal", "refusal": "no"}]}], ""),
        (
            [
                {
                    "content": [
                        {"type": "output_text", "text": None},
                        "odd",
                        {"type": "output_text", "text": "c"},
                    ]
                }
            ],
            "c",
        ),
        (["odd", {"content": "odd"}], ""),
    ],
)
def test_the_text_is_that_of_all_output_parts(output: object, text: str) -> None:
    assert output_text(output) == text
