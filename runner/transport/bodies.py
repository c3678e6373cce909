"""The bytes of an answer → strict JSON, decoded; what Python services write otherwise is mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

decode_any: Final = msgspec.json.Decoder().decode
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Decoded = TypeVar("Decoded")


class Unreadable(Exception):
    """A body that is not what was asked for. `cause` is its sort."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


def decoded(body: bytes, decode: Callable[[bytes], Decoded], what: str) -> tuple[Decoded, bytes]:
    """`body` as `decode` has it, and the strict JSON that it is or was mended to. Raises `Unreadable`.

    `what` it should be, in words.
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
        body = _mended(body, decode)
        return decode(body), body


def strict(body: bytes) -> bytes:
    """`body` where it is strict JSON, else what can be mended of it. Raises `Unreadable`."""
    try:
        decode_any(body)
    except DECODE_ERRORS:
        if not body.strip():
            raise Unreadable("empty", "the answer has an empty body") from None
        return _mended(body, decode_any)
    return body


def strict_object(body: bytes) -> bytes:
    """`body` as a strict JSON object; empty where it is none."""
    try:
        mended = strict(body)
    except Unreadable:
        return b""
    return mended if isinstance(decode_any(mended), dict) else b""


def lenient(raw: msgspec.Raw) -> Any:
    """The value of `raw`; None where it has none that can be read."""
    try:
        return decode_any(raw)
    except DECODE_ERRORS:
        return None


def snippet(body: bytes) -> str:
    """The beginning of `body`, on one line, for a message."""
    text = " ".join(body[:400].decode("utf-8", "replace").split())
    return text if len(text) <= 160 else text[:159] + "…"


def _mended(body: bytes, decode: Callable[[bytes], Any]) -> bytes:
    """JSON as Python services write it (NaN, lone surrogates, a BOM) made strict. Raises `Unreadable`.

    Half an emoji at the end of a cut answer is a lone surrogate. The job is done and paid for:
    its text is kept with a replacement character rather than polled again for ever.
    """
    if body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise Unreadable("html", "the answer is a web page, not JSON: " + snippet(body))
    try:
        value = json.loads(body.decode("utf-8-sig"), strict=False, parse_constant=lambda _: None)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        decode(mended)
    except (ValueError, RecursionError):
        raise Unreadable("not_json", "the answer is not JSON: " + snippet(body)) from None
    return mended
