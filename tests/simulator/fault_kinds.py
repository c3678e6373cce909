"""The kinds of faults for the tests of the simulator, and what each does to a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest

CODES = ("400", "404", "429", "500", "502", "503", "504", "529")
REPLACING = (*CODES, "html", "reset", "hang")
"""Faults that prevent the exchange."""
SPOILING = ("empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status", "lost", "slow")
"""Faults that spoil the reply to an exchange that took place."""
KINDS = (*REPLACING, *SPOILING)


def check_reply(kind: str, status_code: int, body: bytes) -> Any:
    """Check that a whole reply is what the fault's name says; return its content if it is still JSON."""
    if kind in CODES:
        assert status_code == int(kind)
        assert json.loads(body)["error"]["message"]
        return None
    if kind == "html":
        assert status_code == 502
        assert b"<html>" in body
        return None
    assert status_code in (200, 202)
    if kind == "empty":
        assert body == b""
    elif kind == "not_utf8":
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    elif kind == "not_json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
    else:
        return json.loads(body)
    return None
