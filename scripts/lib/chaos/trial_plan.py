"""What one trial is: all of it drawn from (seed, number) before anything starts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from scripts.lib.chaos.input_rows import LONGEST_ID, MODEL, Input, Row, draw_input

MILD_FAULTS = (
    "500", "502", "504", "html", "empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status",
    "reset", "lost",
)  # fmt: skip
COSTLY_FAULTS = ("429", "503", "529", "hang", "slow")
"""Each holds the run up for a second or more."""
MOST_ROUNDS = 5
"""Times that all places for batches are filled, in a run that is not disturbed."""
LOST_FOR_S = 2.0
"""So long a batch whose acknowledgement was lost must be missing before it is sent again."""


class Kind(StrEnum):
    """Of service."""

    KEYED = "own process, idempotency keys"
    UNKEYED = "own process, no keys"
    EMBEDDED = "embedded, idempotency keys"
    IGNORED = "own process, keys ignored"
    """It says nothing of it, and the runner takes it for one that honours them."""


Mode = Literal["background", "batch"]
LONG = {"instructions": "x" * 10_000}
"""The longest of a request."""
KINDS: dict[Mode, dict[Kind, int]] = {
    "background": {Kind.KEYED: 9, Kind.UNKEYED: 6, Kind.EMBEDDED: 5},
    "batch": {Kind.KEYED: 6, Kind.UNKEYED: 6, Kind.EMBEDDED: 4, Kind.IGNORED: 4},
}
"""What is tried in each mode, and how often. Background mode runs twice what a service runs that ignores
keys without being said to; a batch is looked for by its label."""


Signal = Literal["SIGKILL", "SIGINT", "SIGTERM"]
KILLS: tuple[tuple[Signal, ...], ...] = (
    ("SIGKILL",),
    ("SIGINT",),
    ("SIGTERM", "SIGTERM"),
    ("SIGINT", "SIGKILL"),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """In the life of one process: after seconds, or once a share of what is missing at its start is there.

    Of `intents`, one of the first few; `spooled`: while the body of a batch lies on the disk.
    """

    of: Literal["time", "results", "accepted", "intents", "spooled"]
    amount: float
    then_s: float = 0.0
    """Seconds after that."""


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
    signals: tuple[Signal, ...] = KILLS[0]
    """What kills it, one after the other."""
    limit: int | None = None
    """`--limit`"""
    batch: dict[str, Any] = field(default_factory=dict)
    """What of the config's section `batch` is another than before, from here on."""
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
    mode: Mode
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


def draw(seed: int, number: int, modes: Sequence[Mode] = tuple(KINDS)) -> Plan:
    """The same plan for the same arguments; only the moments of a kill are a race."""
    rng = random.Random(f"{seed}/{number}")
    mode = rng.choice(modes)
    kind = rng.choices(*zip(*KINDS[mode].items(), strict=True))[0]
    count = rng.randint(100, 500)
    given = draw_input(rng, number, count)
    pace = _draw_pace(rng, count)
    transport = rng.choices(("aiohttp", "openai"), weights=(4, 1))[0]
    config = _draw_client(rng, mode, kind, transport, given, pace)
    settings = _draw_service(rng, kind, pace)
    acts, last_restart = _draw_acts(rng, mode, kind, count)
    workers = tuple(rng.choices((1, 2, 3), weights=(3, 2, 1), k=5)) if mode == "background" else (1,)
    retry_kills: tuple[Moment, ...] = ()
    if rng.random() < 0.3:
        settings["outcomes"] = {"failed": 0.15}
        retry_kills = tuple(_draw_moment(rng, mode) for _ in range(rng.randint(1, 3)))
    # A request that failed need not have anything to show, and then a 404 is its end.
    more = () if retry_kills and mode == "batch" else ("404",)
    settings["faults"] = _draw_tables(rng, mode, more)
    if mode == "batch":
        _draw_batches(rng, kind, count, config, settings)
    return Plan(
        number,
        mode,
        kind,
        transport,
        config,
        settings,
        given.rows,
        given.lines,
        acts,
        workers,
        last_restart,
        retry_kills,
    )


def _draw_client(
    rng: random.Random, mode: Mode, kind: Kind, transport: str, given: Input, pace: _Pace
) -> dict[str, Any]:
    """The run's config, but for what is told of batches."""
    has_keys = kind is not Kind.UNKEYED
    return {
        "name": "t",
        "target": {
            "mode": mode,
            "transport": transport,
            "timeout_s": 1,
            "idempotency_header": "Idempotency-Key" if has_keys else None,
        },
        "request": {"model": MODEL},
        "source": given.source,
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


def _draw_service(rng: random.Random, kind: Kind, pace: _Pace) -> dict[str, Any]:
    """The simulator's settings, but for its faults and batches."""
    return {
        "latency": pace.latency,
        "capacity": pace.capacity,
        "exchange_s": rng.choice((0.0, 0.0, 0.01, 0.04)),
        "models": [MODEL],
        "vocabulary": rng.choice(("sail", "openai")),
        "fault_s": rng.choice((0.2, 1.5)),  # above timeout_s it is a timeout
        "idempotency": kind in (Kind.KEYED, Kind.EMBEDDED),
        "seed": rng.randrange(1 << 31),
    }


def _draw_tables(rng: random.Random, mode: Mode, more: Sequence[str]) -> dict[str, dict[str, float]]:
    """Faults by sort of exchange; `more` are kinds for what brings results."""
    if mode == "background":
        return {"post": _draw_faults(rng, ()), "get": _draw_faults(rng, more)}
    return {
        "batch": _draw_faults(rng, (), factor=5),
        "status": _draw_faults(rng, ("404",), factor=2),
        # A result without its id is taken in all the same, and could not be told from another's.
        "result": _draw_faults(rng, more, but=("no_id",)),
    }


def _draw_batches(
    rng: random.Random, kind: Kind, count: int, config: dict[str, Any], settings: dict[str, Any]
) -> None:
    """What both sides are told of batches: some are cut by their number and some by their size."""
    config["request"]["instructions"] = "Be brief. " * rng.choice((0, 0, 10, 200, 1000))
    config["batch"] = {"timeout_s": rng.choice((1.5, 4)), **_draw_section(rng, count, config["request"])}
    config["limits"]["max_outage_s"] = LOST_FOR_S * 6
    settings["batches"] = {
        "create_s": rng.choice((0.0, 0.0, 0.3, 0.8, 1.5)),
        "names_item": rng.choice(("index", "custom_id")),
    }
    if kind is Kind.UNKEYED and rng.random() < 0.2:  # what is in doubt cannot be found, and stays so
        settings["batches"][rng.choice(("labels", "listing"))] = False


def _draw_section(rng: random.Random, count: int, request: dict[str, Any]) -> dict[str, Any]:
    """Batches of such a size that they get through in a few rounds."""
    max_open = rng.randint(1, 6)
    least = math.ceil(count / (MOST_ROUNDS * max_open))
    many, most = rng.randint(max(least, 3), max(200, least)), rng.randint(least, 200)
    of_one = len(request["instructions"]) + LONGEST_ID + 250
    return {
        "max_requests": many,
        "max_bytes": of_one * most if rng.random() < 0.4 else 256_000_000,
        "concurrency": rng.randint(1, 3),
        "max_open": max_open,
        "label": rng.choice((None, "chaos", "Some_label-")),
    }


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


def _draw_faults(
    rng: random.Random, more: Sequence[str], factor: float = 1, but: Sequence[str] = ()
) -> dict[str, float]:
    kinds = [kind for kind in (*MILD_FAULTS, *more) if kind not in but]
    mild = rng.sample(kinds, rng.randint(0, 5))
    costly = rng.sample(COSTLY_FAULTS, rng.choice((0, 0, 1, 2)))
    return {
        **{kind: round(factor * rng.uniform(0.005, 0.04), 4) for kind in mild},
        **{kind: round(factor * rng.uniform(0.001, 0.005), 4) for kind in costly},
    }


def _draw_acts(
    rng: random.Random, mode: Mode, kind: Kind, count: int
) -> tuple[tuple[Act, ...], Moment | None]:
    restarts = kind is not Kind.EMBEDDED and rng.random() < 0.35
    acts = []
    for nth in range(rng.randint(1, 6) if mode == "background" else rng.randint(2, 8)):
        kill = _draw_moment(rng, mode)
        if nth and rng.random() < 0.3:  # soon after the one before: while it starts to continue
            kill = Moment("time", round(rng.uniform(0, 0.8), 3))
        is_batch = mode == "batch"
        acts.append(
            Act(
                kill,
                signals=rng.choices(KILLS, weights=(17, 1, 1, 1))[0],
                limit=rng.randint(1, count) if rng.random() < 0.15 else None,
                batch=_draw_section(rng, count, LONG) if is_batch and rng.random() < 0.2 else {},
                restart=_draw_moment(rng, mode) if restarts and rng.random() < 0.5 else None,
                worker_kill=_draw_moment(rng, mode) if not is_batch and rng.random() < 0.5 else None,
                # A batch is found without a key, too, if its label stands in the journal.
                tears=_draw_tears(rng, may_cut=is_batch or kind is not Kind.UNKEYED),
            )
        )
    # An embedded service that has no room refuses whole batches, and the runner may have nothing to write.
    may_fill = mode == "background" or kind is not Kind.EMBEDDED
    if may_fill and rng.random() < 0.25:
        # A limit would be the embedded service's, too: it might refuse everything before the run notices.
        limits = kind is not Kind.EMBEDDED and rng.random() < 0.4
        room_bytes, again = rng.randint(16, 100) * 1024, rng.random() < 0.4
        fill = Fill("file limit" if limits else "disk", room_bytes, again)
        acts.insert(rng.randint(0, len(acts)), Act(Moment("time", 0), fill=fill))
    return tuple(acts), _draw_moment(rng, mode) if restarts else None


def _draw_moment(rng: random.Random, mode: Mode) -> Moment:
    if mode == "batch" and rng.random() < 0.5:  # about an upload: before, in it, or as it is acknowledged
        return Moment(
            rng.choice(("intents", "intents", "spooled")),
            round(rng.uniform(0, 0.9), 3),
            round(rng.choice((0.0, rng.uniform(0, 0.1), rng.uniform(0, 1))), 3),
        )
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
