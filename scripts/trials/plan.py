"""What one trial is: all of it drawn from (seed, number) before anything starts."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

MODEL = "m"
MILD_FAULTS = (
    "500", "502", "504", "html", "empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status",
    "reset", "lost",
)  # fmt: skip
COSTLY_FAULTS = ("429", "503", "529", "hang", "slow")
"""Each holds the run up for a second or more."""


class Kind(StrEnum):
    """Of service."""

    KEYED = "own process, idempotency keys"
    UNKEYED = "own process, no keys"
    EMBEDDED = "embedded, idempotency keys"


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of a row without the runner's help."""

    custom_id: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Moment:
    """In the life of one process: after seconds, or once a share of what is missing at its start is there."""

    of: Literal["time", "results", "accepted"]
    amount: float


@dataclass(frozen=True, slots=True)
class Tear:
    """What a power cut leaves: `amount` is the share of the garbage, or of the last line, concerned."""

    file: Literal["journal", "results", "metrics"]
    """Of several workers' files of that name, one."""
    how: Literal["garbage", "half a line", "cut"]
    amount: float


@dataclass(frozen=True, slots=True)
class Fill:
    """No file can be written after `room_bytes` more: the disk is full, or files may not grow."""

    by: Literal["disk", "file limit"]
    room_bytes: int
    again: bool
    """The run is started once more before there is room."""


@dataclass(frozen=True, slots=True)
class Act:
    """The life of one process: it is killed, or meets a full disk, and then files are torn."""

    kill: Moment
    restart: Moment | None = None
    """Before the kill, the service is killed too and started again."""
    worker_kill: Moment | None = None
    """Before the kill, one of the worker processes is killed, where there are any."""
    tears: tuple[Tear, ...] = ()
    fill: Fill | None = None
    """Instead of the kill."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One trial."""

    number: int
    kind: Kind
    transport: str
    config: dict[str, Any]
    """All but `target.base_url`, which is known when the service runs."""
    settings: dict[str, Any]
    """The `simulator` section."""
    rows: tuple[Row, ...]
    input: bytes
    """The JSON lines of a `jsonl` source; empty for a synthetic one."""
    acts: tuple[Act, ...]
    workers: tuple[int, ...]
    """Of each process in turn, and from the start again: `engine.workers`."""
    last_restart: Moment | None
    """Of the service, in the process that is left to end."""
    retry_kills: tuple[Moment, ...]
    """Where jobs fail: in the processes that then try the failed rows again, one after the other."""

    @property
    def fill(self) -> Fill | None:
        return next((act.fill for act in self.acts if act.fill), None)


def draw(seed: int, number: int) -> Plan:
    """The same plan for the same arguments; only the moments of a kill are a race."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(Kind), weights=(9, 6, 5))[0]
    count = rng.randint(100, 500)
    rows, source, lines = _draw_rows(rng, number, count)
    pace = _draw_pace(rng, count)
    transport = rng.choices(("aiohttp", "openai"), weights=(4, 1))[0]
    is_keyed = kind is not Kind.UNKEYED
    config = {
        "name": "t",
        "target": {
            "transport": transport,
            "timeout_s": 1,
            "idempotency_header": "Idempotency-Key" if is_keyed else None,
        },
        "request": {"model": MODEL},
        "source": source,
        "submit": {
            "concurrency": rng.choice((8, 20, 50)),
            "max_in_flight": pace.max_in_flight,
            # So many that no row is used up by bad luck.
            "retry": {"max_attempts": 100, "base_s": 0.02, "cap_s": 0.3},
        },
        "poll": {
            "concurrency": rng.choice((8, 20, 50)),
            "strategy": rng.choice(("adaptive", "adaptive", "exponential", "fixed")),
            "interval_s": round(rng.uniform(0.1, 0.3), 3),
            "max_interval_s": 0.5,
        },
        "limits": {"drain_s": 1},
        "sink": {"fsync_s": round(rng.uniform(0.05, 1), 3), "store": rng.choice(("full", "text"))},
    }
    settings = {
        "latency": pace.latency,
        "capacity": pace.capacity,
        "exchange_s": rng.choice((0.0, 0.0, 0.01, 0.04)),
        "vocabulary": rng.choice(("sail", "openai")),
        "faults": {"post": _draw_faults(rng, ()), "get": _draw_faults(rng, ("404",))},
        "fault_s": rng.choice((0.2, 1.5)),  # above timeout_s it is a timeout
        "idempotency": is_keyed,
        "seed": rng.randrange(1 << 31),
    }
    acts, last_restart = _draw_acts(rng, kind)
    workers = tuple(rng.choices((1, 2, 3), weights=(3, 2, 1), k=5))
    retry_kills: tuple[Moment, ...] = ()
    if rng.random() < 0.3:
        settings["outcomes"] = {"failed": 0.15}
        retry_kills = tuple(_draw_moment(rng) for _ in range(rng.randint(1, 3)))
    return Plan(
        number, kind, transport, config, settings, rows, lines, acts, workers, last_restart, retry_kills
    )


def _draw_rows(rng: random.Random, number: int, count: int) -> tuple[tuple[Row, ...], dict[str, Any], bytes]:
    """Rows, the `source` section that makes them, and its file."""
    if rng.random() < 0.65:
        prompt = f"Trial {number}: what is known of {{{{ i }}}}?"
        rows = [Row(f"row-{i}", f"Trial {number}: what is known of {i}?") for i in range(count)]
        return tuple(rows), {"count": count, "prompt": prompt}, b""
    ids = rng.sample(range(10**6), count)
    rows = [Row(f"own-{id_:06}", f"What of {id_}, “{rng.choice('äßλ🙂')}”?") for id_ in ids]
    lines = b"".join(_input_line(rng.randrange(4), row) for row in rows)
    return tuple(rows), {"type": "jsonl", "path": "input.jsonl", "prompt": "What of {{ it }}?"}, lines


def _input_line(shape: int, row: Row) -> bytes:
    """A row in one of the four shapes that are taken."""
    body = {"model": MODEL, "input": row.prompt}
    fields: dict[str, Any] = (
        {"method": "POST", "url": "/v1/responses", "body": body},
        {"params": body},
        {"input": row.prompt},
        {"it": row.prompt.removeprefix("What of ").removesuffix("?")},
    )[shape]
    return json.dumps({"custom_id": row.custom_id, **fields}).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class _Pace:
    latency: dict[str, Any]
    capacity: int | None
    max_in_flight: int


def _draw_pace(rng: random.Random, count: int) -> _Pace:
    """Undisturbed, the jobs take about `span_s` altogether; the service or the runner is what limits them."""
    span_s, mean_s = rng.uniform(1.5, 3.5), rng.uniform(0.1, 1.0)
    latency = rng.choice(
        (
            {"type": "constant", "mean_s": mean_s},
            {"type": "exponential", "mean_s": mean_s},
            {"type": "lognormal", "mean_s": mean_s, "sigma": 0.5},
            {"type": "uniform", "min_s": 0, "max_s": 2 * mean_s},
            {"type": "bimodal", "fast_s": mean_s / 2, "slow_s": 2.5 * mean_s, "slow_share": 0.2},
        )
    )
    at_once = max(8, math.ceil(count * mean_s / span_s))
    if rng.random() < 0.5:
        return _Pace(latency, at_once, rng.randint(min(2 * at_once, count), count))
    return _Pace(latency, None, at_once + 8)


def _draw_faults(rng: random.Random, more: Sequence[str]) -> dict[str, float]:
    mild = rng.sample((*MILD_FAULTS, *more), rng.randint(0, 5))
    costly = rng.sample(COSTLY_FAULTS, rng.choice((0, 0, 1, 2)))
    return {
        **{kind: round(rng.uniform(0.005, 0.04), 4) for kind in mild},
        **{kind: round(rng.uniform(0.001, 0.005), 4) for kind in costly},
    }


def _draw_acts(rng: random.Random, kind: Kind) -> tuple[tuple[Act, ...], Moment | None]:
    restarts = kind is not Kind.EMBEDDED and rng.random() < 0.35
    acts = []
    for nth in range(rng.randint(1, 6)):
        kill = _draw_moment(rng)
        if nth and rng.random() < 0.3:  # soon after the one before: while it starts to continue
            kill = Moment("time", round(rng.uniform(0, 0.8), 3))
        restart = _draw_moment(rng) if restarts and rng.random() < 0.5 else None
        worker_kill = _draw_moment(rng) if rng.random() < 0.5 else None
        tears = _draw_tears(rng, may_cut=kind is not Kind.UNKEYED)
        acts.append(Act(kill, restart, worker_kill, tears))
    if rng.random() < 0.25:
        # A limit would be the embedded service's, too: it might refuse everything before the run notices.
        limits = kind is not Kind.EMBEDDED and rng.random() < 0.4
        room_bytes, again = rng.randint(16, 100) * 1024, rng.random() < 0.4
        fill = Fill("file limit" if limits else "disk", room_bytes, again)
        acts.insert(rng.randint(0, len(acts)), Act(Moment("time", 0), fill=fill))
    return tuple(acts), _draw_moment(rng) if restarts else None


def _draw_moment(rng: random.Random) -> Moment:
    of: Literal["time", "results", "accepted"] = rng.choice(("time", "results", "accepted"))
    return Moment(of, round(rng.uniform(0, 3) if of == "time" else rng.uniform(0, 0.9), 3))


def _draw_tears(rng: random.Random, *, may_cut: bool) -> tuple[Tear, ...]:
    """Without idempotency keys nothing may be cut off: what was accepted could not be asked for again."""
    tears = []
    files: tuple[Literal["journal", "results", "metrics"], ...] = ("journal", "results", "metrics")
    for file in files:
        if rng.random() < 0.25:
            cuts = may_cut and file != "metrics" and rng.random() < 0.5
            how: Literal["garbage", "half a line", "cut"] = (
                "cut" if cuts else rng.choice(("garbage", "half a line"))
            )
            tears.append(Tear(file, how, round(rng.uniform(0, 1), 3)))
    return tuple(tears)
