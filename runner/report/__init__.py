"""Run directories → text or JSON. Reads files only; a run never needs it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import yaml

from runner.config.prices import Prices
from runner.errors import Problem, RunDirError
from runner.measure.history import recall
from runner.measure.summary import RunStatus, summarise
from runner.report.text import render
from runner.store import RunDir

__all__ = ["read_summary", "report"]


def report(paths: Sequence[str], *, as_json: bool) -> str:
    """One run, or several side by side. Raises `RunDirError` where a path is not a run directory."""
    summaries = [read_summary(Path(path)) for path in paths]
    if not as_json:
        return render(summaries)
    whole: Any = summaries[0] if len(summaries) == 1 else summaries
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def read_summary(path: Path) -> dict[str, Any]:
    """`summary.json`; made of the other files while the run is running, or where it was killed."""
    run_dir = RunDir(path)
    if not run_dir.exists:
        raise RunDirError(
            Problem("is not a run directory: it has no manifest.json", str(path), "one is <sink.dir>/<name>")
        )
    held = run_dir.is_held
    if not held and _is_newest(run_dir):
        return _written(run_dir)
    manifest = run_dir.read_manifest()
    history = recall(run_dir, manifest, manifest.rows)
    meter, in_flight = history.meter, history.in_flight
    in_flight.inherit(history.recovery.outstanding_count)
    config = _config(run_dir)
    with suppress(LookupError, TypeError):
        history.session.mode = str(config["target"]["mode"])
    ended: RunStatus = "complete" if in_flight.is_complete else "stopped"
    status: RunStatus = "running" if held else ended
    summary = summarise(meter, in_flight, history.session, status, _prices(config), None)
    told: dict[str, Any] = msgspec.to_builtins(summary)
    with suppress(RunDirError):
        written = _written(run_dir)
        if not held and written["requests"] == told["requests"]:  # copied or touched, but nothing is new
            return written
    return told


def _written(run_dir: RunDir) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = msgspec.json.decode(run_dir.summary.read_bytes(), type=dict[str, Any])
        render([summary])  # whoever edited it has left all of it there
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDirError(Problem(f"cannot be read: {error}", str(run_dir.summary))) from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunDirError(
            Problem(f"is not the summary of a run: {error!r}", str(run_dir.summary), "delete it")
        ) from None
    return summary


def _is_newest(run_dir: RunDir) -> bool:
    """Whether nothing was written after the summary: a run continued and then killed has an old one."""
    try:
        logs = (*run_dir.all_results, *run_dir.journals)
        written = [path.stat().st_mtime_ns for path in logs if path.exists()]
        return run_dir.summary.stat().st_mtime_ns >= max(written, default=0)
    except FileNotFoundError:
        return False


def _config(run_dir: RunDir) -> Any:
    """What the run was made with, as far as it can be read."""
    try:
        return yaml.safe_load(run_dir.config.read_bytes())
    except (OSError, yaml.YAMLError, ValueError):
        return None


def _prices(config: Any) -> Prices | None:
    try:
        return Prices.model_validate(config["prices"])
    except (LookupError, TypeError, ValueError):
        return None
