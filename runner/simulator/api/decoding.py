"""Decoding of JSON bodies; the refusal of an invalid one names the wrong field."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from runner.simulator.service.refusals import Refusal

_Decoded = TypeVar("_Decoded")
_Encoded = bytes | bytearray | msgspec.Raw

_PATH = re.compile(r" at `\$\.?([^`]*)`")
_FIELD = re.compile(r" field `([^`]*)`")


def decode(decoder: Callable[[_Encoded], _Decoded], encoded: _Encoded) -> _Decoded:
    """Return what `decoder` makes of a JSON text. Raises Refusal (400) if it is invalid."""
    try:
        return decoder(encoded)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"{error}.", param=_param(str(error)), code="invalid_value") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"Invalid JSON: {error}.", code="invalid_json") from None


def _param(message: str) -> str | None:
    """Return the path of the wrong field from msgspec's message: `… field `a` - at `$.b`` gives b.a."""
    path, field = _PATH.search(message), _FIELD.search(message)
    return ".".join(found[1] for found in (path, field) if found and found[1]) or None
