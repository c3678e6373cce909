"""Formats findings and goals as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.lib.bench.goals import Judgement
from scripts.lib.bench.rounds import Cell, Findings, Spread

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
    "here_cpu_us_per_job": "here: CPU µs/job",
    "there_cpu_us_per_job": "there: CPU µs/job",
    "here_peak_mb": "here: peak MB",
    "there_peak_mb": "there: peak MB",
    "here_wall_s": "here: wall s",
    "there_wall_s": "there: wall s",
    "here_small_cpu_s": "here: CPU s of small run",
    "there_small_cpu_s": "there: CPU s of small run",
    "here_over_there": "here ÷ there",
}
"""Titles of columns; all others are the key with spaces."""


def format_findings(name: str, findings: Findings) -> str:
    """Return how a subject was measured, its table, and its notes."""
    columns = list(findings.rows[0])
    head = [TITLES.get(column, column.replace("_", " ")) for column in columns]
    body = [[format_cell(row[column]) for column in columns] for row in findings.rows]
    notes = [f"{note}\n" for note in findings.notes]
    return "\n".join([f"{name}: {findings.how}; median (least – most)\n", format_table(head, body), *notes])


def format_goals(judgements: Sequence[Judgement]) -> str:
    """Return a table of all goals, met or missed."""
    body = [
        [one.goal, one.bound, "" if one.found is None else format_cell(one.found), one.verdict]
        for one in judgements
    ]
    return format_table(["goal", "bound", "measured", "verdict"], body)


def format_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table with its first column aligned to the left and the others to the right."""
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


def format_cell(cell: Cell) -> str:
    """Return three digits of a measured value, and all digits of a counted one."""
    if isinstance(cell, Spread):
        whole = _digits(cell.median)
        return whole if cell.least == cell.most else f"{whole} ({_digits(cell.least)} – {_digits(cell.most)})"
    return _digits(cell) if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell


def _digits(value: float) -> str:
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}"
