"""The text of a response, and a response cut down to it: what `sink.store: text` keeps."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def text_only(body: msgspec.Raw) -> bytes:
    """Return a response object cut down to id, status, model, text, usage and error, in its own shape.

    Raises `ValueError` or `RecursionError` for JSON that can be passed through but not be understood.
    """
    try:
        whole: dict[str, Any] = msgspec.json.decode(body)
    except msgspec.DecodeError:  # a number too large for a float, which was only passed through so far
        whole = json.loads(bytes(body))
    kept: dict[str, Any] = {key: whole[key] for key in ("id", "object", "status", "model") if key in whole}
    kept["output"] = [
        {"type": "message", "content": [{"type": "output_text", "text": output_text(whole.get("output"))}]}
    ]
    kept.update({key: whole[key] for key in ("usage", "error", "incomplete_details") if whole.get(key)})
    return msgspec.json.encode(kept)


def output_text(output: Any) -> str:
    """Return the text of a response, whose `output` is a list of items, a string, or null."""
    if isinstance(output, str):
        return output
    if not isinstance(output, list):
        return ""
    return "".join(
        part["text"]
        for item in output
        if isinstance(item, dict) and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict) and part.get("type") == "output_text" and isinstance(part.get("text"), str)
    )
