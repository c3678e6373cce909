"""Sums up a run at its end: `summary.json`, and what the user needs to know next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.commands.result import CommandResult
from runner.config import RunConfig
from runner.errors import Interrupted, NothingAccepted, RunnerError, StorageError
from runner.measure.history import History
from runner.measure.meter import Meter
from runner.measure.summary import RunStatus, Summary, summarise, write_summary
from runner.measure.vitals import Vitals
from runner.records import RESULT_STATUSES
from runner.store import RunDir, ignore, recover


def report_complete(
    config: RunConfig, run_dir: RunDir, history: History, notes: Sequence[str]
) -> CommandResult:
    """Return the result of a command that found nothing to do. Raises `StorageError`."""
    meter = history.meter
    summary = summarise(meter, history.in_flight, history.session, "complete", config.prices, None)
    if not _is_written(run_dir, summary):
        write_summary(run_dir.summary, summary)
    said = f"{run_dir.path} is complete: nothing was sent; --new starts over"
    return CommandResult(1 if meter.not_completed else 0, (*notes, said, *_how_to_retry(meter)))


def sum_up(
    config: RunConfig, run_dir: RunDir, history: History, vitals: Vitals, ended_by: RunnerError | None
) -> CommandResult:
    """Write `summary.json`, and return how the run ended and how to continue it."""
    meter, in_flight = history.meter, history.in_flight
    status: RunStatus = "complete"
    if ended_by:
        status = "interrupted" if isinstance(ended_by, Interrupted) else "stopped"
    if isinstance(ended_by, StorageError):
        _recount(run_dir, history)
    summary = summarise(meter, in_flight, history.session, status, config.prices, vitals)
    try:
        write_summary(run_dir.summary, summary)
    except StorageError as error:
        ended_by = ended_by or error
    if ended_by is None:
        said = f"results are in {_results(run_dir)}"
        return CommandResult(1 if meter.not_completed else 0, (said, *_how_to_retry(meter)))
    messages = [str(ended_by)]
    if in_flight.outstanding:
        said = f"{in_flight.outstanding:,} jobs are still open at the service, and billable"
        ask = f"`runner cancel {run_dir.path}` asks it to end them"
        is_batch = config.target.mode == "batch"
        messages.append(f"{said}; {'a batch cannot be cancelled' if is_batch else ask}")
    if in_flight.announced:
        messages.append(
            f"{in_flight.announced:,} requests were sent without an acknowledgement: perhaps billable"
        )
    if not isinstance(ended_by, NothingAccepted):
        messages.append(f"continue with the same command; results so far are in {_results(run_dir)}")
    return CommandResult(ended_by.exit_code, tuple(messages))


def _results(run_dir: RunDir) -> Path:
    """Return where the results are: several workers write several files."""
    only = len(run_dir.all_results) == 1
    return run_dir.results if only else run_dir.path / "results*.jsonl"


def _recount(run_dir: RunDir, history: History) -> None:
    """Count what is outstanding by the files, which are right after a write error."""
    with suppress(RunnerError):
        left = recover(run_dir, history.session.rows, ignore, ignore)
        history.in_flight.outstanding = left.outstanding_count
        history.in_flight.announced = left.unacknowledged_count


def _how_to_retry(meter: Meter) -> Iterator[str]:
    statuses = [status for status in RESULT_STATUSES[1:] if meter.statuses[status]]
    if statuses:
        yield f"{meter.not_completed:,} did not end completed; --retry {','.join(statuses)} retries them"


def _is_written(run_dir: RunDir, summary: Summary) -> bool:
    """Return whether `summary.json` says the same; a kill in the last moment leaves an old one or none."""
    try:
        before = msgspec.json.decode(run_dir.summary.read_bytes())
        now = msgspec.to_builtins(summary)
        is_same_status = before["run"]["status"] == now["run"]["status"]
        return bool(is_same_status and before["requests"] == now["requests"])
    except (OSError, msgspec.DecodeError, LookupError, TypeError):
        return False
