"""Decodes the bytes of an answer. JSON that is not strict, as some Python services write it, is repaired."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

decode_any: Final = msgspec.json.Decoder().decode
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Decoded = TypeVar("Decoded")


class Unreadable(Exception):
    """A body that is not what was requested; `cause` is one word for the kind of error."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


def decoded(body: bytes, decode: Callable[[bytes], Decoded], what: str) -> tuple[Decoded, bytes]:
    """Return the value of `body`, and `body` as strict JSON, repaired if need be. Raises `Unreadable`.

    `what` names the expected value in error messages, such as "a batch".
    """
    if not body.strip():
        raise Unreadable("empty", "the answer has an empty body")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise Unreadable("not_utf8", "the answer is not UTF-8: " + snippet(body)) from None
    try:
        return decode(body), body
    except msgspec.ValidationError as error:
        raise Unreadable("not_object", f"the answer is not {what}: {error}") from None
    except DECODE_ERRORS:
        body = _repaired(body, decode)
        return decode(body), body


def strict(body: bytes) -> bytes:
    """Return `body` as strict JSON, repaired if need be. Raises `Unreadable`."""
    try:
        decode_any(body)
    except DECODE_ERRORS:
        if not body.strip():
            raise Unreadable("empty", "the answer has an empty body") from None
        return _repaired(body, decode_any)
    return body


def strict_object(body: bytes) -> bytes:
    """Return `body` as a strict JSON object, or empty bytes if it is not an object."""
    try:
        repaired = strict(body)
    except Unreadable:
        return b""
    return repaired if isinstance(decode_any(repaired), dict) else b""


def lenient(raw: msgspec.Raw) -> Any:
    """Return the value of `raw`, or None if it is empty or cannot be decoded."""
    try:
        return decode_any(raw)
    except DECODE_ERRORS:
        return None


def snippet(body: bytes) -> str:
    """Return the beginning of `body` on one line, at most 160 characters, for a message."""
    text = " ".join(body[:400].decode("utf-8", "replace").split())
    return text if len(text) <= 160 else text[:159] + "…"


def _repaired(body: bytes, decode: Callable[[bytes], Any]) -> bytes:
    """Repair JSON as Python services write it: NaN, lone surrogates, a BOM. Raises `Unreadable`.

    Half an emoji at the end of a truncated answer is a lone surrogate. The job is done and paid for, so its
    text is kept with a replacement character: another poll would bring the same bytes.
    """
    if body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise Unreadable("html", "the answer is a web page, not JSON: " + snippet(body))
    try:
        value = json.loads(body.decode("utf-8-sig"), strict=False, parse_constant=lambda _: None)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        repaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        decode(repaired)
    except (ValueError, RecursionError):
        raise Unreadable("not_json", "the answer is not JSON: " + snippet(body)) from None
    return repaired
