"""The summary of a run directory: as it was written, or made from the other files."""

from __future__ import annotations

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

Summary = dict[str, Any]
"""The content of a `summary.json` of this version or an older one, which may lack fields."""


def read_summary(path: Path) -> Summary:
    """Return the content of `summary.json`, or the same made from the other files if it is missing or old.

    It is old while the run is running, and after a kill. Raises `RunDirError` where `path` is not a run
    directory, or a file is damaged.
    """
    run_dir = RunDir(path)
    run_dir.check_exists()
    is_running = run_dir.is_held
    if not is_running and _is_newest(run_dir):
        return _written(run_dir)
    recalled = _recalled(run_dir, is_running=is_running)
    with suppress(RunDirError):
        written = _written(run_dir)
        if not is_running and written["requests"] == recalled["requests"]:  # files were copied or touched
            return written
    return recalled


def _recalled(run_dir: RunDir, *, is_running: bool) -> Summary:
    """Return a summary made from manifest, config, results, journals and metrics."""
    manifest = run_dir.read_manifest()
    history = recall(run_dir, manifest, manifest.rows)
    config = _config(run_dir)
    with suppress(LookupError, TypeError):
        history.session.mode = str(config["target"]["mode"])
    ended: RunStatus = "complete" if history.in_flight.is_complete else "stopped"
    status: RunStatus = "running" if is_running else ended
    summary: Summary = msgspec.to_builtins(
        summarise(history.meter, history.in_flight, history.session, status, _prices(config), None)
    )
    return summary


def _written(run_dir: RunDir) -> Summary:
    """Return the content of `summary.json`. Raises `RunDirError` unless it can be reported."""
    try:
        summary: Summary = msgspec.json.decode(run_dir.summary.read_bytes(), type=Summary)
        render([summary])  # fails where somebody has edited the file and a needed field is gone
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDirError(Problem(f"cannot be read: {error}", str(run_dir.summary), "delete it")) from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunDirError(
            Problem(f"is not the summary of a run: {error!r}", str(run_dir.summary), "delete it")
        ) from None
    return summary


def _is_newest(run_dir: RunDir) -> bool:
    """Return whether nothing was written after the summary, as it is when a continued run was killed."""
    try:
        logs = (*run_dir.all_results, *run_dir.journals)
        written = [path.stat().st_mtime_ns for path in logs if path.exists()]
        return run_dir.summary.stat().st_mtime_ns >= max(written, default=0)
    except FileNotFoundError:
        return False


def _config(run_dir: RunDir) -> Any:
    """Return the resolved config as YAML says it, or None where it cannot be read."""
    try:
        return yaml.safe_load(run_dir.config.read_bytes())
    except (OSError, yaml.YAMLError, ValueError):
        return None


def _prices(config: Any) -> Prices | None:
    """Return the prices in a config, or None where there are none or they are not valid."""
    try:
        return Prices.model_validate(config["prices"])
    except (LookupError, TypeError, ValueError):
        return None
