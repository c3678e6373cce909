"""Draws the plan of a trial from a seed and the trial's number, before anything starts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scripts.lib.chaos.input_rows import LONGEST_ID, MODEL, Input, draw_input
from scripts.lib.chaos.trial_plan import (
    Act,
    Fill,
    Mode,
    Moment,
    ServiceKind,
    Signal,
    Tear,
    TearKind,
    TornFile,
    TrialPlan,
)

SERVICES: dict[Mode, dict[ServiceKind, int]] = {
    "background": {ServiceKind.KEYED: 9, ServiceKind.UNKEYED: 6, ServiceKind.EMBEDDED: 5},
    "batch": {
        ServiceKind.KEYED: 6,
        ServiceKind.UNKEYED: 6,
        ServiceKind.EMBEDDED: 4,
        ServiceKind.IGNORED: 4,
    },
}
"""Services of each mode, with their relative frequency.

Background mode has none that ignores keys: without a key or a label, some rows there do run twice. A batch is
found by its label.
"""
SIGNALS: tuple[tuple[Signal, ...], ...] = (
    ("SIGKILL",),
    ("SIGINT",),
    ("SIGTERM", "SIGTERM"),
    ("SIGINT", "SIGKILL"),
)
MILD_FAULTS = (
    "500", "502", "504", "html", "empty", "cut", "not_utf8", "not_json", "not_object", "no_id", "odd_status",
    "reset", "lost",
)  # fmt: skip
COSTLY_FAULTS = ("429", "503", "529", "hang", "slow")
"""Faults that each delay the run by a second or more."""
LONGEST_REQUEST = {"instructions": "x" * 10_000}
"""The longest fields of a request that a plan may draw."""
MOST_FILLINGS = 5
"""How many times an undisturbed run may fill all its slots for batches."""
LOST_FOR_S = 2.0
"""Seconds for which a batch must stay unknown, after a lost acknowledgement, before it is sent again."""


@dataclass(frozen=True, slots=True)
class _Pace:
    """How fast the service works, and how many jobs may be in flight."""

    latency: dict[str, Any]
    capacity: int | None
    max_in_flight: int


def draw_plan(seed: int, number: int, modes: Sequence[Mode] = tuple(SERVICES)) -> TrialPlan:
    """Return the plan of a trial; equal arguments give equal plans."""
    rng = random.Random(f"{seed}/{number}")
    mode = rng.choice(modes)
    service = rng.choices(*zip(*SERVICES[mode].items(), strict=True))[0]
    count = rng.randint(100, 500)
    given = draw_input(rng, number, count)
    pace = _draw_pace(rng, count)
    transport = rng.choices(("aiohttp", "openai"), weights=(4, 1))[0]
    config = _draw_config(rng, mode, service, transport, given, pace)
    simulator = _draw_simulator(rng, service, pace)
    acts, last_restart = _draw_acts(rng, mode, service, count)
    workers = tuple(rng.choices((1, 2, 3), weights=(3, 2, 1), k=5)) if mode == "background" else (1,)
    retry_kills: tuple[Moment, ...] = ()
    if rng.random() < 0.3:
        simulator["outcomes"] = {"failed": 0.15}
        retry_kills = tuple(_draw_moment(rng, mode) for _ in range(rng.randint(1, 3)))
    # A failed request of a batch may have nothing to fetch: there a 404 would be taken for its end.
    result_faults = () if retry_kills and mode == "batch" else ("404",)
    simulator["faults"] = _draw_fault_tables(rng, mode, result_faults)
    if mode == "batch":
        _add_batches(rng, service, count, config, simulator)
    return TrialPlan(
        number=number,
        mode=mode,
        service=service,
        transport=transport,
        config=config,
        simulator=simulator,
        rows=given.rows,
        input=given.lines,
        acts=acts,
        workers=workers,
        last_restart=last_restart,
        retry_kills=retry_kills,
    )


def _draw_config(
    rng: random.Random, mode: Mode, service: ServiceKind, transport: str, given: Input, pace: _Pace
) -> dict[str, Any]:
    """Return the run's config without what concerns batches."""
    has_keys = service is not ServiceKind.UNKEYED
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
            # Enough attempts that bad luck never uses up a row.
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


def _draw_simulator(rng: random.Random, service: ServiceKind, pace: _Pace) -> dict[str, Any]:
    """Return the simulator's settings without its faults and batches."""
    return {
        "latency": pace.latency,
        "capacity": pace.capacity,
        "exchange_s": rng.choice((0.0, 0.0, 0.01, 0.04)),
        "models": [MODEL],
        "vocabulary": rng.choice(("sail", "openai")),
        "fault_s": rng.choice((0.2, 1.5)),  # above timeout_s it is a timeout
        "idempotency": service in (ServiceKind.KEYED, ServiceKind.EMBEDDED),
        "seed": rng.randrange(1 << 31),
    }


def _draw_pace(rng: random.Random, count: int) -> _Pace:
    """Return a pace at which `count` jobs take 1.5 s to 3.5 s if undisturbed.

    Either the capacity of the service or the runner's `max_in_flight` is the limit.
    """
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


def _draw_fault_tables(
    rng: random.Random, mode: Mode, result_faults: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the faults of each sort of exchange; `result_faults` are further kinds where results arrive."""
    if mode == "background":
        return {"post": _draw_faults(rng), "get": _draw_faults(rng, result_faults)}
    return {
        "batch": _draw_faults(rng, factor=5),
        "status": _draw_faults(rng, ("404",), factor=2),
        # A result without an id is accepted as it is: nothing distinguishes it from that of another row.
        "result": _draw_faults(rng, result_faults, excluded=("no_id",)),
    }


def _draw_faults(
    rng: random.Random, further: Sequence[str] = (), *, factor: float = 1, excluded: Sequence[str] = ()
) -> dict[str, float]:
    """Return the share of exchanges that each kind of fault spoils; `factor` multiplies all of them."""
    kinds = [kind for kind in (*MILD_FAULTS, *further) if kind not in excluded]
    mild = rng.sample(kinds, rng.randint(0, 5))
    costly = rng.sample(COSTLY_FAULTS, rng.choice((0, 0, 1, 2)))
    return {
        **{kind: round(factor * rng.uniform(0.005, 0.04), 4) for kind in mild},
        **{kind: round(factor * rng.uniform(0.001, 0.005), 4) for kind in costly},
    }


def _add_batches(
    rng: random.Random, service: ServiceKind, count: int, config: dict[str, Any], simulator: dict[str, Any]
) -> None:
    """Add what concerns batches to the run's config and to the simulator's settings."""
    config["request"]["instructions"] = "Be brief. " * rng.choice((0, 0, 10, 200, 1000))
    config["batch"] = {
        "timeout_s": rng.choice((1.5, 4)),
        **_draw_batch_section(rng, count, config["request"]),
    }
    config["limits"]["max_outage_s"] = LOST_FOR_S * 6
    simulator["batches"] = {
        "create_s": rng.choice((0.0, 0.0, 0.3, 0.8, 1.5)),
        "names_item": rng.choice(("index", "custom_id")),
    }
    if service is ServiceKind.UNKEYED and rng.random() < 0.2:  # a batch in doubt can never be found
        simulator["batches"][rng.choice(("labels", "listing"))] = False


def _draw_batch_section(rng: random.Random, count: int, request: dict[str, Any]) -> dict[str, Any]:
    """Return a section `batch` with batches large enough for `MOST_FILLINGS`.

    Some plans limit a batch by its number of requests, some by its size in bytes.
    """
    max_open = rng.randint(1, 6)
    least = math.ceil(count / (MOST_FILLINGS * max_open))
    max_requests, fit_by_size = rng.randint(max(least, 3), max(200, least)), rng.randint(least, 200)
    request_bytes = len(request["instructions"]) + LONGEST_ID + 250
    return {
        "max_requests": max_requests,
        "max_bytes": request_bytes * fit_by_size if rng.random() < 0.4 else 256_000_000,
        "concurrency": rng.randint(1, 3),
        "max_open": max_open,
        "label": rng.choice((None, "chaos", "Some_label-")),
    }


def _draw_acts(
    rng: random.Random, mode: Mode, service: ServiceKind, count: int
) -> tuple[tuple[Act, ...], Moment | None]:
    """Return the acts of a trial, and the moment of a restart of the service after them."""
    restarts = service is not ServiceKind.EMBEDDED and rng.random() < 0.35
    acts = [
        _draw_act(rng, mode, service, count, restarts=restarts, is_first=nth == 0)
        for nth in range(rng.randint(1, 6) if mode == "background" else rng.randint(2, 8))
    ]
    # An embedded service without room refuses whole batches, and then the runner may have nothing to write.
    may_fill = mode == "background" or service is not ServiceKind.EMBEDDED
    if may_fill and rng.random() < 0.25:
        # A file limit would hold for an embedded service as well: it might refuse everything first.
        has_limit = service is not ServiceKind.EMBEDDED and rng.random() < 0.4
        room_bytes, is_repeated = rng.randint(16, 100) * 1024, rng.random() < 0.4
        fill = Fill("file limit" if has_limit else "disk", room_bytes, is_repeated)
        acts.insert(rng.randint(0, len(acts)), Act(Moment("time", 0), fill=fill))
    return tuple(acts), _draw_moment(rng, mode) if restarts else None


def _draw_act(
    rng: random.Random, mode: Mode, service: ServiceKind, count: int, *, restarts: bool, is_first: bool
) -> Act:
    kill = _draw_moment(rng, mode)
    if not is_first and rng.random() < 0.3:  # soon after the last kill: while the run resumes
        kill = Moment("time", round(rng.uniform(0, 0.8), 3))
    is_batch = mode == "batch"
    return Act(
        kill,
        signals=rng.choices(SIGNALS, weights=(17, 1, 1, 1))[0],
        limit=rng.randint(1, count) if rng.random() < 0.15 else None,
        batch=_draw_batch_section(rng, count, LONGEST_REQUEST) if is_batch and rng.random() < 0.2 else {},
        restart=_draw_moment(rng, mode) if restarts and rng.random() < 0.5 else None,
        worker_kill=_draw_moment(rng, mode) if not is_batch and rng.random() < 0.5 else None,
        # Without a key, a batch is still found by its label, provided that the journal has the label.
        tears=_draw_tears(rng, may_cut=is_batch or service is not ServiceKind.UNKEYED),
    )


def _draw_moment(rng: random.Random, mode: Mode) -> Moment:
    if mode == "batch" and rng.random() < 0.5:  # around an upload: before, during, or as it is acknowledged
        return Moment(
            rng.choice(("intents", "intents", "spooled")),
            round(rng.uniform(0, 0.9), 3),
            round(rng.choice((0.0, rng.uniform(0, 0.1), rng.uniform(0, 1))), 3),
        )
    event: Literal["time", "results", "accepted"] = rng.choice(("time", "results", "accepted"))
    return Moment(event, round(rng.uniform(0, 3) if event == "time" else rng.uniform(0, 0.9), 3))


def _draw_tears(rng: random.Random, *, may_cut: bool) -> tuple[Tear, ...]:
    """Return the tears after an act.

    Without idempotency keys nothing may be cut off: the run could not ask for what was accepted.
    """
    tears = []
    files: tuple[TornFile, ...] = ("journal", "results", "metrics")
    for file in files:
        if rng.random() < 0.25:
            is_cut = may_cut and file != "metrics" and rng.random() < 0.5
            kind: TearKind = "cut" if is_cut else rng.choice(("garbage", "half a line"))
            tears.append(Tear(file, kind, round(rng.uniform(0, 1), 3)))
    return tuple(tears)
