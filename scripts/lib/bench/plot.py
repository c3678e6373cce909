"""Draws the findings as one SVG that is legible on light and dark pages; needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.lib.bench.candidates import BARE, BASELINE, DIRECT, SDK
from scripts.lib.bench.rounds import Cell, Findings, Spread

NAME = "performance.svg"
INK, FAINT = "#7d8590", "#7d859055"
"""Greys that are legible on white and on black; the background is transparent."""
OTHERS, OURS = "#9aa1ab", "#3b82c4"
POLICIES = {
    "fixed": (OTHERS, "o-"),
    "exponential": ("#c98a2b", "D"),
    "adaptive": (OURS, "o-"),
    "optimum": (INK, "--"),
}
"""Colour and line style of each strategy."""
DISTRIBUTION, SHORTEST_LAG_S = "lognormal 0.5", 1.0
"""Distribution and least lag of the polling panel; a fixed interval of one second is outside of it."""
PANEL_INCHES = (3.6, 2.7)
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": NAME,  # the same findings make the same file
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "axes.axisbelow": True,
}


class Policy(msgspec.Struct, frozen=True):
    """What a polling strategy spends, at one of its settings, on one distribution."""

    policy: str
    distribution: str
    polls_per_job: float
    mean_lag_s: float


class Polling(msgspec.Struct, frozen=True):
    """The part of the output of `scripts/bench polling --json` that is drawn."""

    policies: list[Policy]


def draw(subjects: Mapping[str, Findings], polling: Path | None, directory: Path) -> Path:
    """Draw what was findings, and return the path of the file. Raises SystemExit if there is nothing."""
    panels: list[Callable[[Axes], None]] = []
    if "candidates" in subjects:
        panels.append(lambda axes: draw_candidates(axes, subjects["candidates"]))
    if "in-flight" in subjects:
        panels.append(lambda axes: draw_in_flight(axes, subjects["in-flight"]))
    if polling is not None:
        policies = read_policies(polling)
        panels.append(lambda axes: draw_polling(axes, policies))
    if not panels:
        raise SystemExit("nothing to draw: measure candidates or in-flight, or name a --polling FILE")
    path = directory / NAME
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(len(panels) * PANEL_INCHES[0], PANEL_INCHES[1]), layout="constrained")
        figure.get_layout_engine().set(wspace=0.08)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            panel(axes)
        directory.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, transparent=True, metadata={"Date": None})
    return path


def read_policies(path: Path) -> list[Policy]:
    """Return what the strategies spent. Raises SystemExit if the file does not hold it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Polling).policies
    except (OSError, msgspec.DecodeError) as error:
        raise SystemExit(f"{path} holds no polling policies to draw: {error}") from None


def draw_candidates(axes: Axes, findings: Findings) -> None:
    """Draw a bar for each candidate, the runner's in colour."""
    found = {str(row["candidate"]): spread_of(row["cpu_us_per_job"]).median for row in findings.rows}
    names = [name for name in (BASELINE, SDK, DIRECT, BARE) if name in found]
    colours = [OURS if name in (DIRECT, SDK) else OTHERS for name in names]
    bars = axes.barh(names, [found[name] for name in names], height=0.62, color=colours)
    axes.bar_label(bars, [f"{found[name]:,.0f}" for name in names], padding=5)
    axes.invert_yaxis()
    axes.tick_params(left=False)
    axes.set_xticks([])
    axes.margins(x=0.2)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.set_title("CPU per job, µs")


def draw_in_flight(axes: Axes, findings: Findings) -> None:
    """Draw CPU per job over the jobs in flight."""
    levels = [number(row["in_flight"]) for row in findings.rows]
    found = [spread_of(row["cpu_us_per_job"]) for row in findings.rows]
    axes.vlines(levels, [us.least for us in found], [us.most for us in found], color=OURS, linewidth=1)
    axes.plot(levels, [us.median for us in found], color=OURS, marker="o", markersize=5)
    axes.set_xscale("log")
    axes.set_xticks(levels, [f"{level:,.0f}" for level in levels])
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.set_ylim(0, 1.25 * max(us.most for us in found))
    axes.grid(axis="y")
    axes.set_xlabel("jobs in flight")
    axes.set_title("CPU per job, µs, the runner")


def draw_polling(axes: Axes, policies: list[Policy]) -> None:
    """Draw a curve of polls and lag for each strategy; nearer to the corner is better."""
    drawn = [one for one in policies if one.distribution == DISTRIBUTION and one.mean_lag_s >= SHORTEST_LAG_S]
    for name, (colour, form) in POLICIES.items():
        points = sorted((one.polls_per_job, one.mean_lag_s) for one in drawn if one.policy == name)
        if points:
            axes.plot(*zip(*points, strict=True), form, color=colour, markersize=4, linewidth=1.4, label=name)
    axes.set_xlim(0, 30)
    axes.set_ylim(0, 65)
    axes.grid()
    axes.legend(frameon=False, fontsize=10, labelcolor=INK)
    axes.set_xlabel("polls per job")
    axes.set_title("mean lag, s (lognormal, σ 0.5)")


def spread_of(cell: Cell) -> Spread:
    """Return a cell that must hold a spread."""
    assert isinstance(cell, Spread)
    return cell


def number(cell: Cell) -> float:
    """Return a cell that must hold a number."""
    assert isinstance(cell, int | float)
    return float(cell)
