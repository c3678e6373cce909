"""Where to cut an axis into cells, such that a hazard can be taken as constant within each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

CELLS: Final = 32
"""Cells that hold about equally many completions each."""
EVEN_CELLS: Final = 24
"""Cells of equal width cut into the same range, so that a gap without completions is not bridged."""
TAIL_RATIO: Final = 1.4
"""Growth of the distance from the middle, from one edge to the next, above that range."""
FINEST_SHARE: Final = 1 / 400
"""Width of the narrowest cell, as a share of that range."""
FINEST_S: Final = 1e-3
"""Width of the narrowest cell, in seconds."""
_END: Final = 0.25 / CELLS
SHARES: Final = (_END, *((n + 0.25) / (CELLS + 0.5) for n in range(1, CELLS)), 1 - _END)
"""Shares of completions whose quantiles `edges_around` takes: the range leaves out the extremes."""


def edges_around(quantiles: Sequence[float], first: float, last: float) -> list[float]:
    """Return edges from `first` to `last`, dense between `quantiles` and ever wider apart outside.

    `quantiles` are the positions that the `SHARES` of completions came before, ascending.
    """
    low, high = quantiles[0], quantiles[-1]
    least = max((high - low) * FINEST_SHARE, FINEST_S)
    inner = _inner(quantiles, least)
    middle = (inner[0] + inner[-1]) / 2
    reach = max(inner[-1] - middle, least)
    upper, width = [inner[-1]], max(inner[-1] - inner[-2], least)
    while upper[-1] < last:
        upper.append(min(upper[-1] + width, last))
        width = max(width * TAIL_RATIO, (upper[-1] - middle - reach) * (TAIL_RATIO - 1))
    lower, width = [inner[0]], max(inner[1] - inner[0], least)
    while lower[-1] > first:
        lower.append(max(lower[-1] - width, first))
        width *= 2
    return lower[:0:-1] + inner + upper[1:]


def rebinned(counts: Sequence[float], edges: Sequence[float], new_edges: Sequence[float]) -> list[float]:
    """Return `counts` of the cells between `edges` for other cells, each spread evenly over where it was.

    Both lists of edges must begin and end at the same positions.
    """
    moved = [0.0] * (len(new_edges) - 1)
    i = 0
    for k, count in enumerate(counts):
        start, stop = edges[k], edges[k + 1]
        while new_edges[i + 1] <= start:
            i += 1
        j = i
        while True:
            share = (min(stop, new_edges[j + 1]) - max(start, new_edges[j])) / (stop - start)
            if share > 0:
                moved[j] += share * count
            if new_edges[j + 1] >= stop or j + 2 >= len(new_edges):
                break
            j += 1
    return moved


def _inner(quantiles: Sequence[float], least: float) -> list[float]:
    """Return edges over the range of `quantiles`, no closer than `least`; at least two."""
    low, high = quantiles[0], quantiles[-1]
    evenly = [low + n / EVEN_CELLS * (high - low) for n in range(1, EVEN_CELLS)]
    edges = [low]
    for edge in sorted([*quantiles[1:], *evenly]):
        if edge - edges[-1] >= least:
            edges.append(edge)
    if len(edges) == 1:
        edges.append(low + least)
    return edges
