"""Sample entries and results of a row, with times and names that follow from its number."""

from __future__ import annotations

from typing import Any

import msgspec

from runner.records import Reply, Result, Timing
from runner.store import Acceptance, Intent, Retraction


def intent(row: int, epoch: int = 0) -> Intent:
    """Return the intent of a row."""
    return Intent(row=row, custom_id=f"id-{row}", key=f"key-{row}", due=1.0 + row, at=2.0 + row, epoch=epoch)


def acceptance(row: int) -> Acceptance:
    """Return the acceptance of a row, after two attempts."""
    return Acceptance(row=row, job=f"resp_{row}", kind="m", attempts=2, at=3.0 + row)


def retraction(row: int) -> Retraction:
    """Return the retraction of a row that was throttled."""
    return Retraction(row=row, cause="429", at=2.5 + row)


def result(row: int, **changes: Any) -> Result:
    """Return the completed result of a row; keyword arguments change its fields."""
    body = b'{"id": "resp_%d", "output": [], "usage": {"input_tokens": 3}}' % row
    completed = Result(
        custom_id=f"id-{row}",
        row=row,
        status="completed",
        response=Reply(status_code=200, request_id=None, body=msgspec.Raw(body)),
        error=None,
        timing=Timing(due=1.0, sent=1.5, accepted=2.0, pending=None, done=5.0),
        attempts=1,
        polls=2,
    )
    return msgspec.structs.replace(completed, **changes)
