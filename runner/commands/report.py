"""`runner report`: the summary of one run, or of several side by side; and the report at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.commands.result import CommandResult
from runner.errors import RunnerError
from runner.report import report


def report_runs(run_dirs: Sequence[str], *, as_json: bool) -> CommandResult:
    """Return the report of runs. Raises `RunDirError` where a path is not a run directory."""
    return CommandResult(0, output=report(run_dirs, as_json=as_json))


def report_end(run_dir: Path) -> tuple[str, tuple[str, ...]]:
    """Return the report of a run that has just ended, and what prevented it.

    Nothing is raised, because a missing report does not change how the run ended.
    """
    try:
        return report([str(run_dir)], as_json=False), ()
    except RunnerError as error:
        return "", (f"no report: {error}",)
