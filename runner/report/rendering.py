"""The report of one run, or of several side by side, as text or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.report.summaries import read_summary
from runner.report.text import render


def report(paths: Sequence[str], *, as_json: bool) -> str:
    """Return the report of the runs in these directories.

    JSON is the summary of a single run, or a list for several. Raises `RunDirError` where a path is not a run
    directory.
    """
    summaries = [read_summary(Path(path)) for path in paths]
    if not as_json:
        return render(summaries)
    whole: Any = summaries[0] if len(summaries) == 1 else summaries
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()
