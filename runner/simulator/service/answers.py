"""Prompts and their answers: an answer is a function of the prompt, so that a test can tell whose it is."""

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
    text: str


class ImagePart(msgspec.Struct, tag_field="type", tag="input_image", forbid_unknown_fields=True):
    image_url: str
    detail: Literal["auto", "low", "high"] = "auto"


class Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart | ImagePart], msgspec.Meta(min_length=1)]
    name: str = ""
    tool_calls: list[dict[str, Any]] = []
    tool_call_id: str = ""
    function_call: dict[str, Any] = {}


Messages = Annotated[list[Message], msgspec.Meta(min_length=1)]


class Conversation(msgspec.Struct, forbid_unknown_fields=True):
    messages: Messages


Prompt = Annotated[str, msgspec.Meta(min_length=1)] | Messages | Conversation
"""What `input` may be."""


def prompt_text(prompt: Prompt) -> str:
    """All text of the prompt: one user message and the same text as a string are the same prompt."""
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
    """12 hexadecimal digits that stand for the prompt in its answer."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def answer_words(digest: str, mean: int, at_most: int | None) -> int:
    """How many words the answer has: from half to one and a half of `mean`, by the digest."""
    words = max(2, round(mean * (0.5 + int(digest[:8], 16) / 0x1_0000_0000)))
    return words if at_most is None else min(words, at_most)


def answer(digest: str, words: int) -> str:
    """The first `words` words of the answer to the prompt with this digest."""
    start = int(digest[8:10], 16) % len(_FILLER)
    rounds, rest = divmod(max(0, words - 2), len(_FILLER))
    filler = _PATTERN[start : start + len(_FILLER)] * rounds + _PATTERN[start : start + rest]
    return " ".join(["answer", digest, *filler][:words])


def answer_to(input_value: object, tokens: int) -> str:
    """What the simulator answers to `input`, cut at `tokens` words: compare with `usage.output_tokens`.

    Any two answers to one prompt begin alike. Raises msgspec.ValidationError for what is no prompt.
    """
    prompt: Prompt = msgspec.convert(input_value, Prompt)
    return answer(prompt_digest(prompt_text(prompt)), tokens)
