"""The rows of a trial: what is known of each without the runner's help, and the input that makes them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

MODEL = "m"
NO_MODEL = "no-such-model"
"""The service refuses it."""
LONGEST_ID = 130


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of a row without the runner's help."""

    custom_id: str
    prompt: str
    is_refused: bool = False
    """By the service, for what it asks."""


@dataclass(frozen=True, slots=True)
class Input:
    """The rows, the `source` section that makes them, and its file, which is empty for synthetic rows."""

    rows: tuple[Row, ...]
    source: dict[str, Any]
    lines: bytes


def draw_input(rng: random.Random, number: int, count: int) -> Input:
    """Rows that are all alike, or lines in all shapes with ids of all kinds, and perhaps some bad ones."""
    if rng.random() < 0.5:
        prompt = f"Trial {number}: what is known of {{{{ i }}}}?"
        rows = [Row(f"row-{i}", f"Trial {number}: what is known of {i}?") for i in range(count)]
        return Input(tuple(rows), {"count": count, "prompt": prompt}, b"")
    are_odd = rng.random() < 0.5
    bad = set(rng.sample(range(count), rng.randint(1, 4)) if rng.random() < 0.4 else ())
    rows = [
        Row(
            _odd_id(rng, id_) if are_odd else f"own-{id_:06}",
            f"What of {id_}, “{rng.choice('äßλ🙂')}”?",
            is_refused=i in bad,
        )
        for i, id_ in enumerate(rng.sample(range(10**6), count))
    ]
    lines = b"".join(_line(rng.randrange(4), row) for row in rows)
    return Input(tuple(rows), {"type": "jsonl", "path": "input.jsonl", "prompt": "What of {{ it }}?"}, lines)


def _odd_id(rng: random.Random, number: int) -> str:
    """Most are none that a batch may have, and some would be alike if their letters were only made so."""
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
    """A row in one of the four shapes that are taken."""
    body = {"model": NO_MODEL if row.is_refused else MODEL, "input": row.prompt}
    shapes: tuple[dict[str, Any], ...] = (
        {"method": "POST", "url": "/v1/responses", "body": body},
        {"params": body},
        {"input": row.prompt},
        {"it": row.prompt.removeprefix("What of ").removesuffix("?")},
    )
    fields = shapes[shape % 2 if row.is_refused else shape]
    return json.dumps({"custom_id": row.custom_id, **fields}).encode() + b"\n"
