"""`runner check`: the plan of a run, for people; sends nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from runner.batch.cut import cut
from runner.commands.host import raise_open_file_limit
from runner.commands.result import CommandResult
from runner.config import EMBEDDED, RunConfig
from runner.engine.leases import share
from runner.errors import RunDirError
from runner.measure.history import recall
from runner.measure.summary import cost_usd
from runner.records import Request
from runner.source import Source, Survey
from runner.store import RunDir, check_unchanged

CHARACTERS_PER_TOKEN: Final = 4


def check(config: RunConfig, limit: int | None) -> CommandResult:
    """Read all input and return the plan of a run of its first `limit` rows.

    Raises `ConfigError`, `InputError` with all problems found.
    """
    raise_open_file_limit(share(config, 0))
    source = Source(config)
    survey = source.survey()
    rows = min(survey.rows, limit or survey.rows)
    first = source.request(next(source.blocks())[0])
    lines = [f"{name:<9}{text}" for name, text in _lines(config, source, survey, rows, first)]
    body = msgspec.json.format(first.body, indent=2).decode()
    where = "in a batch: POST" if config.target.mode == "batch" else "POST"
    call = "batches" if config.target.mode == "batch" else "responses"
    heading = f"first request, {first.custom_id}, {where} {_address(config)}/{call}"
    return CommandResult(0, output="\n".join([*lines, "", heading, body]))


def _lines(
    config: RunConfig, source: Source, survey: Survey, rows: int, first: Request
) -> Iterator[tuple[str, str]]:
    target, poll = config.target, config.poll
    run_dir = RunDir(Path(config.sink.dir) / config.name)
    yield "run", f"{run_dir.path} ({_existing(run_dir, config, survey, rows)})"
    yield "rows", f"{rows:,}{'' if rows == survey.rows else f' of {survey.rows:,}'}, {config.source.type}"
    header = target.idempotency_header or _without_keys(config)
    yield "target", f"{_address(config)} ({target.mode}, {target.transport}, {header})"
    yield "key", _key(config)
    yield "limits", _limits(config)
    if target.mode == "batch":
        yield "batches", _batches(config, source, rows)
    if config.engine.workers > 1:
        yield "workers", f"{config.engine.workers} processes share these limits"
    yield "stops", _stops(config)
    yield "polling", poll.strategy + (f", at most {poll.max_rate:g} GETs/s" if poll.max_rate else "")
    if config.prices:
        yield "cost", _cost(config, rows, first)


def _existing(run_dir: RunDir, config: RunConfig, survey: Survey, rows: int) -> str:
    """Return what `runner run` would do with the run directory."""
    if not run_dir.exists:
        return "new"
    if config.sink.on_existing != "resume":
        return {"new": "exists: would be renamed", "fail": "exists: would be refused"}[
            config.sink.on_existing
        ]
    try:
        manifest = run_dir.read_manifest()
        key = os.environ.get(config.target.api_key_env, "").strip() or None
        is_embedded = config.target.base_url == EMBEDDED
        check_unchanged(manifest, config, survey.fingerprint, None if is_embedded else key, run_dir.path)
        history = recall(run_dir, manifest, rows)
    except RunDirError as error:
        return f"exists, and would be refused: {error.problems[0].what}"
    done, still_open = history.meter.done, history.recovery.outstanding_count
    left = history.in_flight.total - done - still_open
    if done >= history.in_flight.total:
        return "complete: nothing would be sent"
    return f"would be continued: {done:,} done, {still_open:,} open, {left:,} left"


def _without_keys(config: RunConfig) -> str:
    if config.target.mode == "batch":
        return "no idempotency header: after a lost acknowledgement, a batch is found by its label"
    return "no idempotency header: a row whose acknowledgement is lost becomes uncertain"


def _limits(config: RunConfig) -> str:
    """Return how much may happen at once."""
    submit, batch = config.submit, config.batch
    gets = f"{config.poll.concurrency:,} GETs at once"
    if config.target.mode == "batch":
        return f"{batch.concurrency:,} uploads and {gets}, {batch.max_open:,} batches open"
    return f"{submit.concurrency:,} POSTs and {gets}, {submit.max_in_flight:,} jobs in flight"


def _batches(config: RunConfig, source: Source, rows: int) -> str:
    """Return how the rows would be cut into batches."""
    found = cut(config, source, rows)
    said = "none"
    if found.counts:
        counts, sizes = _span(found.counts, "{:,}"), _span([n / 1e6 for n in found.sizes_bytes], "{:,.3g}")
        said = f"{len(found.counts):,}, of {counts} requests and {sizes} MB"
    if config.limits.max_cost_usd is not None:
        said += "; smaller ones first, because of limits.max_cost_usd"
    if found.too_large:
        said += f"; {found.too_large:,} rows are larger than batch.max_bytes and would be rejected"
    if found.renamed:
        said += f"; {found.renamed:,} ids are renamed for the service, and kept in the results"
    return said


def _span(values: Sequence[float], form: str) -> str:
    """Return the range of some values, such as `50,000 to 100,000`, or `100,000` if all are alike."""
    ends = [form.format(end) for end in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


def _stops(config: RunConfig) -> str:
    """Return what ends the run early."""
    limits = config.limits
    stops = [f"if nothing succeeds for {limits.max_outage_s:g} s"]
    if limits.max_s is not None:
        stops.append(f"after {limits.max_s:g} s")
    if limits.max_failures is not None:
        stops.append(f"at {limits.max_failures:,} failures")
    if limits.max_cost_usd is not None:
        stops.append(f"at about ${limits.max_cost_usd:,.2f}")
    return ", or ".join(stops)


def _address(config: RunConfig) -> str:
    return "the simulator" if config.target.base_url == EMBEDDED else config.target.base_url


def _key(config: RunConfig) -> str:
    if config.target.base_url == EMBEDDED and config.simulator.api_key_env is None:
        return "none needed"
    name = config.target.api_key_env
    return f"in {name}" if os.environ.get(name) else f"{name} is not set: `runner run` would fail"


def _cost(config: RunConfig, rows: int, first: Request) -> str:
    """Return an estimate: input like that of the first row, output as long as is allowed."""
    body = msgspec.json.decode(first.body)
    input_tokens = rows * len(msgspec.json.encode(body["input"])) // CHARACTERS_PER_TOKEN
    sums = {"input": input_tokens, "cached": 0, "output": 0}
    said = (
        f"about ${cost_usd(sums, config.prices):,.2f} for input ({CHARACTERS_PER_TOKEN} characters a token)"
    )
    most = body.get("max_output_tokens")
    if not isinstance(most, int):
        return f"{said}; output has no limit: set request.max_output_tokens"
    sums = {"input": 0, "cached": 0, "output": rows * most}
    return f"{said}, at most ${cost_usd(sums, config.prices):,.2f} for output"
