"""The report as Markdown tables: readable in a terminal, and ready to paste into a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from runner.records import RESULT_STATUSES

LATENCIES: Final = {
    "schedule_delay": "schedule delay",
    "submit": "submit",
    "completion": "completion",
    "detection_lag_bound": "detection lag ≤",
    "poll": "one poll",
}
MILESTONES: Final = {
    "submitted": "submitted after",
    "first_result": "first result after",
    "half_results": "half of the results after",
    "last_result": "last result after",
}
_QUANTILES: Final = ("mean", "p50", "p90", "p95", "p99", "max")

Table = list[list[str]]


def render(summaries: Sequence[dict[str, Any]]) -> str:
    """Return the totals, with one column per run, and the latencies, with one row per latency and run.

    Fields that older versions did not write may be missing in `summaries`. Raises `LookupError`, `TypeError`,
    `ValueError` or `AttributeError` where any other field is missing or of a wrong type.
    """
    totals: Table = [["", *(summary["run"]["name"] for summary in summaries)]]
    columns = [dict(_totals(summary)) for summary in summaries]
    for title in dict.fromkeys(title for column in columns for title in column):
        totals.append([title, *(column.get(title, "–") for column in columns)])
    latencies: Table = [["seconds", *_QUANTILES]]
    for name, label in LATENCIES.items():
        for summary in summaries:
            row = label if len(summaries) == 1 else f"{label}: {summary['run']['name']}"
            values = summary["latency_s"][name]
            if values["max"] is not None:
                latencies.append([row, *(_seconds(values[column]) for column in _QUANTILES)])
    tables = [markdown(totals), *([markdown(latencies)] if len(latencies) > 1 else [])]
    return "\n\n".join([*tables, *_remarks(summaries)])


def _remarks(summaries: Sequence[dict[str, Any]]) -> Iterator[str]:
    for summary in summaries:
        name, spanned = summary["run"]["name"], summary["run"]["spanned_a_stop"]
        if spanned:
            what = f"{spanned:,} requests were in flight while it was stopped"
            yield f"{name}: {what}; they are excluded from latency figures."
        client = summary["client"]
        if client and client["limited"]:
            yield f"{name}: limited by the client: its CPU was busy, so latencies include its own delay."


def _totals(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    run, requests, throughput = summary["run"], summary["requests"], summary["throughput"]
    continued = f", continued {run['continued']}×" if run["continued"] else ""
    yield "run", f"{run['status']}{continued}"
    if "mode" in run:
        yield "mode", run["mode"]
    yield "wall time", f"{run['wall_s']:,.1f} s"
    rows = run["rows"]
    yield "requests", f"{requests['total']:,}" + (f" of {rows:,} rows" if rows > requests["total"] else "")
    for status in (*RESULT_STATUSES, "open", "unsent"):
        if requests[status] or status == "completed":
            yield status, f"{requests[status]:,}"
    if run.get("retried"):
        yield "retried by hand", f"{run['retried']:,}"
    yield from _milestones(summary.get("milestones_s", {}))
    yield "accepted per second", f"{throughput['accepted_per_s']:,.1f}"
    yield "completed per second", f"{throughput['completed_per_s']:,.1f}"
    yield "output tokens per second", f"{throughput['output_tokens_per_s']:,.0f}"
    polls = summary["polls"]
    each = polls["per_completion"]
    yield "polls", f"{polls['total']:,}" + (f" ({each:.2f} per completion)" if each is not None else "")
    yield from _wire(summary.get("wire"), sum(requests[status] for status in RESULT_STATUSES))
    for side in ("submit", "poll"):
        counts = [
            f"{_cause_name(cause)} ×{count:,}" for cause, count in sorted(summary["retries"][side].items())
        ]
        if counts:
            yield f"{side} retries", ", ".join(counts)
    tokens = summary["tokens"]
    if not requests["total"] - requests["unsent"]:
        return
    yield "tokens in, out", f"{tokens['input']:,}, {tokens['output']:,}"
    if summary["cost_usd"] is not None:
        yield "cost", f"${summary['cost_usd']:,.4f}"
    yield from _client(summary["client"])


def _milestones(milestones: dict[str, float | None]) -> Iterator[tuple[str, str]]:
    for name, label in MILESTONES.items():
        after = milestones.get(name)
        if after is not None:
            yield label, f"{_seconds(after)} s"


def _wire(wire: dict[str, int] | None, done: int) -> Iterator[tuple[str, str]]:
    """Yield the traffic per row; `wire` is None in summaries of versions that did not count it."""
    if wire is None:
        return
    requests, up, down = wire["requests"], wire["sent_bytes"], wire["received_bytes"]
    yield "HTTP requests per row", f"{requests / done:,.2f}" if done else "–"
    yield "bytes per row, up and down", f"{up / done:,.0f} and {down / done:,.0f}" if done else "–"


def _client(client: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if client is None:
        return
    each = client["cpu_us_per_request"]
    if each is not None:
        yield "client CPU per request", f"{each:,.0f} µs"
    yield "client peak memory", f"{client['max_rss_bytes'] / 1e6:,.0f} MB"


def _cause_name(cause: str) -> str:
    return f"HTTP {cause}" if cause.isdigit() else cause


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.1f}" if value >= 100 else f"{value:.3f}"


def markdown(table: Table, left: int = 1) -> str:
    """Return a Markdown table whose first `left` columns are aligned left, and the others right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]

    def line(row: list[str]) -> str:
        cells = [
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    return "\n".join([line(table[0]), line(rule), *map(line, table[1:])])
