"""Rows of a trial: what is known of each without the runner, and the input that produces them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

MODEL = "m"
UNKNOWN_MODEL = "no-such-model"
"""Name of a model for which the service rejects a request."""
LONGEST_ID = 130
"""Characters of the longest `custom_id`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the trial knows it, without the runner."""

    custom_id: str
    prompt: str
    is_rejected: bool = False
    """Whether the service rejects the row's request."""


@dataclass(frozen=True, slots=True)
class Input:
    """Rows, the `source` section that produces them, and the file it reads."""

    rows: tuple[Row, ...]
    source: dict[str, Any]
    lines: bytes
    """JSON lines of the file; empty for synthetic rows."""


def draw_input(rng: random.Random, number: int, count: int) -> Input:
    """Return `count` synthetic rows, or as many JSON lines of every shape, some of them to be rejected."""
    if rng.random() < 0.5:
        prompt = f"Trial {number}: what is known of {{{{ i }}}}?"
        rows = [Row(f"row-{i}", f"Trial {number}: what is known of {i}?") for i in range(count)]
        return Input(tuple(rows), {"count": count, "prompt": prompt}, b"")
    has_odd_ids = rng.random() < 0.5
    rejected = set(rng.sample(range(count), rng.randint(1, 4)) if rng.random() < 0.4 else ())
    rows = [
        Row(
            _odd_id(rng, id_) if has_odd_ids else f"own-{id_:06}",
            f"What of {id_}, “{rng.choice('äßλ🙂')}”?",
            is_rejected=i in rejected,
        )
        for i, id_ in enumerate(rng.sample(range(10**6), count))
    ]
    lines = b"".join(_line(rng.randrange(4), row) for row in rows)
    return Input(tuple(rows), {"type": "jsonl", "path": "input.jsonl", "prompt": "What of {{ it }}?"}, lines)


def _odd_id(rng: random.Random, number: int) -> str:
    """Return an unusual id that is unique for its number.

    Most are not valid within a batch. Some would be equal if only their characters were replaced.
    """
    return rng.choice(
        (
            f"Row {number % 50} – {number}",
            f"UPPER-{number}",
            f"upper-{number}",
            f"{number}/λόγος/🙂",
            "🙂" * (number % 7) + f"{number}",
            f"-{number}",
            f"long-{number}-".ljust(LONGEST_ID - number % 3, "x"),
            f'"quoted" {number}\t%s {{0}}',
        )
    )


def _line(shape: int, row: Row) -> bytes:
    """Return a row in one of the four accepted shapes; a rejected row names its model, in one of two."""
    body = {"model": UNKNOWN_MODEL if row.is_rejected else MODEL, "input": row.prompt}
    shapes: tuple[dict[str, Any], ...] = (
        {"method": "POST", "url": "/v1/responses", "body": body},
        {"params": body},
        {"input": row.prompt},
        {"it": row.prompt.removeprefix("What of ").removesuffix("?")},
    )
    fields = shapes[shape % 2 if row.is_rejected else shape]
    return json.dumps({"custom_id": row.custom_id, **fields}).encode() + b"\n"
