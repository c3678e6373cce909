"""Findings as Markdown tables, ready for a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.lib.bench.goals import Judged
from scripts.lib.bench.rounds import Cell, Measured, Spread

TITLES = {
    "cpu_us_per_job": "CPU µs/job",
    "wall_s": "wall s",
    "peak_mb": "peak MB",
    "posts_per_job": "POSTs/job",
    "gets_per_job": "GETs/job",
    "over_bare": "÷ bare",
    "baseline_over_it": "baseline ÷ it",
    "over_first": "÷ first",
    "simulator_peak_mb": "simulator's peak MB",
}
"""Of columns that are not called what they are, with spaces."""


def findings(name: str, measured: Measured) -> str:
    """A sweep: what was done, its table, what to mind."""
    columns = list(measured.rows[0])
    head = [TITLES.get(column, column.replace("_", " ")) for column in columns]
    body = [[written(row[column]) for column in columns] for row in measured.rows]
    notes = [f"{note}\n" for note in measured.notes]
    return "\n".join([f"{name}: {measured.how}; median (least – most)\n", table(head, body), *notes])


def verdicts(judgements: Sequence[Judged]) -> str:
    """Every goal, met or missed."""
    body = [
        [one.goal, one.bound, "" if one.found is None else written(one.found), one.verdict]
        for one in judgements
    ]
    return table(["goal", "bound", "measured", "verdict"], body)


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """The first column to the left, numbers to the right."""
    lines = [list(head), *map(list, body)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        for line in lines
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (padded[0], rule, *padded[1:]))


def written(cell: Cell) -> str:
    """Three digits of what was measured, all of what was counted."""
    if isinstance(cell, Spread):
        whole = _digits(cell.median)
        return whole if cell.least == cell.most else f"{whole} ({_digits(cell.least)} – {_digits(cell.most)})"
    return _digits(cell) if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell


def _digits(value: float) -> str:
    size: Any = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}"
