"""Answers belong to their prompts, and usage counts their words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.simulator.service.answers import answer_to
from tests.simulator.support import Virtual, body_of, settings


def text_of(response: dict[str, object]) -> str:
    """Return the text of a response."""
    output = response["output"]
    assert isinstance(output, list)
    parts = [part for item in output for part in item.get("content", [])]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


@pytest.mark.parametrize(
    "prompt",
    [
        "a string",
        [{"role": "user", "content": "one message"}],
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": "two"}],
        [{"role": "user", "content": [{"type": "input_text", "text": "in parts"}]}],
        {"messages": [{"role": "user", "content": "an object"}]},
    ],
    ids=["string", "message", "messages", "parts", "object"],
)
def test_an_answer_belongs_to_its_prompt(prompt: object) -> None:
    virtual = Virtual()
    response = virtual.get(virtual.create(prompt))
    assert text_of(response) == answer_to(prompt, response["usage"]["output_tokens"])
    assert text_of(response) != answer_to("another prompt", response["usage"]["output_tokens"])


def test_a_message_and_its_text_as_a_string_are_the_same_prompt() -> None:
    assert answer_to("x", 9) == answer_to([{"role": "user", "content": "x"}], 9)


@given(prompt=st.text(min_size=1), tokens=st.integers(1, 300))
def test_an_answer_has_the_requested_length_and_begins_like_a_longer_one(prompt: str, tokens: int) -> None:
    assert len(answer_to(prompt, tokens).split()) == tokens
    assert answer_to(prompt, 400).startswith(answer_to(prompt, tokens))


def test_an_answer_stays_within_max_output_tokens() -> None:
    virtual = Virtual(settings(output_tokens=100))
    response = virtual.get(virtual.create("a", max_output_tokens=7))
    assert response["usage"]["output_tokens"] == 7
    assert len(text_of(response).split()) == 7


def test_answers_have_about_output_tokens_words_and_differ_in_length() -> None:
    virtual = Virtual(settings(output_tokens=80))
    usages = [virtual.get(virtual.create(f"prompt {i}"))["usage"] for i in range(400)]
    words = [usage["output_tokens"] for usage in usages]
    assert sum(words) / len(words) == pytest.approx(80, rel=0.06)
    assert len(set(words)) > 40


def test_usage_counts_words_and_reports_the_configured_shares() -> None:
    virtual = Virtual(settings(output_tokens=100, cached_share=0.5, reasoning_share=0.25))
    response = virtual.get(virtual.create("one two three four", instructions="five six"))
    usage = response["usage"]
    assert usage["input_tokens"] == 6
    assert usage["input_tokens_details"]["cached_tokens"] == 3
    assert usage["output_tokens_details"]["reasoning_tokens"] == usage["output_tokens"] // 4
    assert usage["total_tokens"] == 6 + usage["output_tokens"]
    visible = usage["output_tokens"] - usage["output_tokens_details"]["reasoning_tokens"]
    assert len(text_of(response).split()) == visible
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]


def test_an_incomplete_response_has_a_shorter_answer_and_is_billed_for_it() -> None:
    whole, partial = Virtual(), Virtual(settings(outcomes={"incomplete": 1.0}))
    body = body_of("the same")
    full = whole.get(whole.create(body["input"]))
    half = partial.get(partial.create(body["input"]))
    assert half["status"] == "incomplete"
    assert half["incomplete_details"] == {"reason": "max_output_tokens"}
    assert 0 < half["usage"]["output_tokens"] < full["usage"]["output_tokens"]
    assert text_of(full).startswith(text_of(half))
