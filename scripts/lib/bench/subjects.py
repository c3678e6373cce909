"""Subjects of the benchmark: what can be measured, and how much of it by default."""

from __future__ import annotations

from typing import Final

import msgspec

from scripts.lib.bench.candidates import measure_candidates
from scripts.lib.bench.goals import IN_FLIGHT, ROWS, ROWS_IN_FLIGHT
from scripts.lib.bench.in_flight import measure_in_flight
from scripts.lib.bench.memory import measure_memory
from scripts.lib.bench.modes import measure_modes
from scripts.lib.bench.rounds import Findings
from scripts.lib.bench.startup_time import measure_startup
from scripts.lib.bench.workers import measure_workers


class Extent(msgspec.Struct, frozen=True):
    """How much of a subject to measure."""

    rounds: int
    sizes: tuple[int, int] = (0, 0)
    """Jobs of the smaller and of the larger run."""
    levels: tuple[int, ...] = ()
    """Jobs in flight, or workers: whatever the subject is about."""


FULL: Final = {
    "candidates": Extent(8, (500, 5_000)),
    "in-flight": Extent(3, (1_000, 16_000), IN_FLIGHT),
    "workers": Extent(6, (2_000, 20_000), (1, 2)),
    "modes": Extent(2, (25_000, 250_000)),
    "start": Extent(20),
    "memory": Extent(1, ROWS, (ROWS_IN_FLIGHT,)),
}
SMALL: Final = {
    "candidates": Extent(2, (200, 1_000)),
    "in-flight": Extent(1, (500, 4_500), (500, 2_000)),
    "workers": Extent(2, (1_000, 6_000), (1, 2)),
    "modes": Extent(1, (1_000, 6_000)),
    "start": Extent(10),
    "memory": Extent(1, (5_000, 50_000), (2_000,)),
}
FULL_AGAINST: Final = {"candidates": Extent(12, (1_000, 11_000)), "modes": Extent(8, (1_000, 21_000))}
SMALL_AGAINST: Final = {"candidates": Extent(6, (400, 4_000)), "modes": Extent(6, (500, 4_000))}
USUAL: Final = ("candidates", "in-flight", "workers", "start")
QUICK: Final = ("candidates", "in-flight", "start")


def measure(name: str, extent: Extent) -> Findings:
    """Measure a subject."""
    match name:
        case "candidates":
            return measure_candidates(extent.sizes, extent.rounds)
        case "in-flight":
            return measure_in_flight(extent.levels, extent.sizes, extent.rounds)
        case "workers":
            return measure_workers(extent.levels, extent.sizes, extent.rounds)
        case "modes":
            return measure_modes(extent.sizes, extent.rounds)
        case "start":
            return measure_startup(extent.rounds)
        case _:
            return measure_memory(extent.levels[0], extent.sizes, extent.rounds)
