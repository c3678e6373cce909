"""Does memory grow with the number of rows? The same number in flight, few rows and many, from a file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.lib.bench.benchmark_run import run, service
from scripts.lib.bench.in_flight import JOBS_PER_S, LATENCY_SHARE, SHORTEST_INTERVAL_S
from scripts.lib.bench.pinned_processes import client_cores, serving, trial
from scripts.lib.bench.rounds import Cell, Measured, plural, ratio, spread, take_turns, tell

MB = 1e6


def memory(level: int, sizes: Sequence[int], rounds: int) -> Measured:
    """Peaks of a run's process at each size, and of the simulator, which remembers every job."""
    taken = take_turns(sizes, rounds, lambda rows: peaks(rows, level))
    rows: list[dict[str, Cell]] = [
        {
            "rows": size,
            "in_flight": level,
            "seen_at_most": min(found["seen"] for found in of),
            "peak_mb": spread(found["peak"] / MB for found in of),
            "wall_s": spread(found["wall_s"] for found in of),
            "simulator_peak_mb": max(found["simulator"] for found in of) / MB,
        }
        for size, of in taken.items()
    ]
    few, many = ([found["peak"] for found in taken[size]] for size in (sizes[0], sizes[-1]))
    return Measured(
        how=f"JSON lines of a file, {plural(rounds, 'round')} in turns",
        rows=rows,
        figures={
            f"{sizes[-1]} ÷ {sizes[0]} rows, {level} in flight": ratio(many, few),
            f"peak MB of {sizes[-1]} rows, {level} in flight": spread(peak / MB for peak in many),
        },
    )


def peaks(rows: int, level: int) -> dict[str, float]:
    interval_s = max(level / JOBS_PER_S, SHORTEST_INTERVAL_S)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        serving(service(LATENCY_SHARE * interval_s)) as simulator,
    ):
        path = Path(directory) / "rows.jsonl"
        write_rows(path, rows)
        with run(
            simulator.base_url,
            rows,
            interval_s=interval_s,
            source={"type": "jsonl", "path": str(path)},
            submit={"max_in_flight": level},
        ) as ours:
            used = trial(simulator, ours.command, rows, client_cores()).usage
        tell(f"{plural(rows, 'row')}: {used.peak_bytes / MB:,.0f} MB at most, {used.wall_s:,.0f} s")
        return {
            "peak": used.peak_bytes,
            "wall_s": used.wall_s,
            "seen": simulator.stats()["peak_open"],
            "simulator": simulator.peak_bytes(),
        }


def write_rows(path: Path, rows: int) -> None:
    with path.open("w") as lines:
        for i in range(rows):
            text = f"TASK {i}: What is a fun fact about the number {i}? " + "word " * 50
            lines.write(json.dumps({"custom_id": f"fact-{i}", "input": text}) + "\n")
