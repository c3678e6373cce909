"""The run directory: identity, journal, results, and what they say after a crash."""

from runner.store.batches import LeftBatch
from runner.store.files import AppendLog, Reserve, replace_atomically
from runner.store.identity import Manifest, check_unchanged
from runner.store.journal import (
    Acceptance,
    BatchAcceptance,
    BatchIntent,
    BatchRetraction,
    Intent,
    Journal,
    Reopened,
    Retraction,
    SessionStart,
    read_marks,
)
from runner.store.recovery import Recovery, Unacknowledged, recover
from runner.store.results import Line, Results, read_results
from runner.store.rows import Rows
from runner.store.rundir import Files, RunDir
from runner.store.superseding import reopen, set_superseded_aside

__all__ = [
    "Acceptance",
    "AppendLog",
    "BatchAcceptance",
    "BatchIntent",
    "BatchRetraction",
    "Files",
    "Intent",
    "Journal",
    "LeftBatch",
    "Line",
    "Manifest",
    "Recovery",
    "Reopened",
    "Reserve",
    "Results",
    "Retraction",
    "Rows",
    "RunDir",
    "SessionStart",
    "Unacknowledged",
    "check_unchanged",
    "read_marks",
    "read_results",
    "recover",
    "reopen",
    "replace_atomically",
    "set_superseded_aside",
]
