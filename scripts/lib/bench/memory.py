"""Peak memory with few rows and with many, to see whether it grows with the rows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from scripts.lib.bench.benchmark_run import benchmark_run, simulator_settings
from scripts.lib.bench.in_flight import LATENCY_SHARE, interval_at
from scripts.lib.bench.pinned_processes import client_cores, serving
from scripts.lib.bench.rounds import Cell, Findings, plural, ratio, report_progress, spread, take_turns

MB: Final = 1e6


class Peak(msgspec.Struct, frozen=True):
    """What one run needed, and what its simulator saw."""

    bytes: int
    wall_s: float
    seen_in_flight: int
    simulator_bytes: int


def measure_memory(level: int, sizes: Sequence[int], rounds: int) -> Findings:
    """Measure the peak memory of a run and of its simulator, which keeps every job, at each size."""
    peaks = take_turns(sizes, rounds, lambda rows: peak_of(rows, level))
    rows: list[dict[str, Cell]] = [
        {
            "rows": size,
            "in_flight": level,
            "seen_at_most": min(peak.seen_in_flight for peak in of),
            "peak_mb": spread(peak.bytes / MB for peak in of),
            "wall_s": spread(peak.wall_s for peak in of),
            "simulator_peak_mb": max(peak.simulator_bytes for peak in of) / MB,
        }
        for size, of in peaks.items()
    ]
    few, many = ([float(peak.bytes) for peak in peaks[size]] for size in (sizes[0], sizes[-1]))
    return Findings(
        how=f"JSON lines of a file, {plural(rounds, 'round')} in turns",
        rows=rows,
        figures={
            f"{sizes[-1]} ÷ {sizes[0]} rows, {level} in flight": ratio(many, few),
            f"peak MB of {sizes[-1]} rows, {level} in flight": spread(peak / MB for peak in many),
        },
    )


def peak_of(rows: int, level: int) -> Peak:
    """Run rows of a file with `level` slots, against a simulator of its own."""
    interval_s = interval_at(level)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        serving(simulator_settings(LATENCY_SHARE * interval_s)) as simulator,
    ):
        path = Path(directory) / "rows.jsonl"
        write_rows(path, rows)
        with benchmark_run(
            simulator.base_url,
            rows,
            interval_s=interval_s,
            source={"type": "jsonl", "path": str(path)},
            submit={"max_in_flight": level},
        ) as run:
            used = run.measure(simulator, client_cores()).usage
        needed = f"{used.peak_bytes / MB:,.0f} MB at most, {used.wall_s:,.0f} s"
        report_progress(f"{plural(rows, 'row')}: {needed}")
        return Peak(
            bytes=used.peak_bytes,
            wall_s=used.wall_s,
            seen_in_flight=simulator.stats()["peak_open"],
            simulator_bytes=simulator.peak_bytes(),
        )


def write_rows(path: Path, rows: int) -> None:
    """Write a JSON lines file with this many rows."""
    with path.open("w") as lines:
        for i in range(rows):
            text = f"TASK {i}: What is a fun fact about the number {i}? " + "word " * 50
            lines.write(json.dumps({"custom_id": f"fact-{i}", "input": text}) + "\n")
