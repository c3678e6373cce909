"""Prompts and answers: each answer is a function of its prompt, so a test can check which is which."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

_FILLER: tuple[str, ...] = (
    "the", "number", "turns", "out", "to", "be", "known", "for", "its", "odd", "place", "among", "others",
    "and", "people", "who", "count", "things", "like", "it", "more", "than", "most", "because", "of",
    "how", "often", "one", "meets", "again", "in", "nature",
)  # fmt: skip
_PATTERN = " ".join(_FILLER).split() * 2


class TextPart(msgspec.Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """Text within a message."""

    text: str


class ImagePart(msgspec.Struct, tag_field="type", tag="input_image", forbid_unknown_fields=True):
    """An image within a message; its URL counts as text."""

    image_url: str
    detail: Literal["auto", "low", "high"] = "auto"


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart | ImagePart], msgspec.Meta(min_length=1)]
    name: str = ""
    tool_calls: list[dict[str, Any]] = []
    tool_call_id: str = ""
    function_call: dict[str, Any] = {}


Messages = Annotated[list[Message], msgspec.Meta(min_length=1)]


class Conversation(msgspec.Struct, forbid_unknown_fields=True):
    """A conversation as an object."""

    messages: Messages


Prompt = Annotated[str, msgspec.Meta(min_length=1)] | Messages | Conversation
"""The forms of `input` in a request body."""


def prompt_text(prompt: Prompt) -> str:
    """Return all text of a prompt. A single message and its text as a plain string give the same."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Conversation):
        prompt = prompt.messages
    texts: list[str] = []
    for message in prompt:
        if isinstance(message.content, str):
            texts.append(message.content)
        else:
            texts += [part.text if isinstance(part, TextPart) else part.image_url for part in message.content]
    return "\n".join(texts)


def prompt_digest(text: str) -> str:
    """Return 12 hexadecimal digits that identify the prompt in its answer."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def answer_words(digest: str, mean: int, at_most: int | None) -> int:
    """Return the length of the answer in words: between 0.5 and 1.5 times `mean`, by the digest."""
    words = max(2, round(mean * (0.5 + int(digest[:8], 16) / 0x1_0000_0000)))
    return words if at_most is None else min(words, at_most)


def answer(digest: str, words: int) -> str:
    """Return the first `words` words of the answer to the prompt with this digest."""
    start = int(digest[8:10], 16) % len(_FILLER)
    rounds, rest = divmod(max(0, words - 2), len(_FILLER))
    filler = _PATTERN[start : start + len(_FILLER)] * rounds + _PATTERN[start : start + rest]
    return " ".join(["answer", digest, *filler][:words])


def answer_to(input_value: object, tokens: int) -> str:
    """Return the simulator's answer to `input`, cut at `tokens` words (see `usage.output_tokens`).

    Of two answers to one prompt, the shorter is the beginning of the longer. Raises msgspec.ValidationError
    if `input_value` is not a prompt.
    """
    prompt: Prompt = msgspec.convert(input_value, Prompt)
    return answer(prompt_digest(prompt_text(prompt)), tokens)
