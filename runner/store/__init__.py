"""The run directory: identity, journal, results, and what they say after a crash."""

from runner.store.batch_replay import UnfinishedBatch
from runner.store.files import AppendLog, Reserve, replace_atomically
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
from runner.store.manifest import Manifest, check_unchanged
from runner.store.recovery import Recovery, Unacknowledged, ignore, recover
from runner.store.reopen import archive_superseded, reopen
from runner.store.result_reader import ResultReader
from runner.store.results import ResultHead, Results, read_results
from runner.store.row_set import RowSet
from runner.store.rundir import Files, RunDir

__all__ = [
    "Acceptance",
    "AppendLog",
    "BatchAcceptance",
    "BatchIntent",
    "BatchRetraction",
    "Files",
    "Intent",
    "Journal",
    "Manifest",
    "Recovery",
    "Reopened",
    "Reserve",
    "ResultHead",
    "ResultReader",
    "Results",
    "Retraction",
    "RowSet",
    "RunDir",
    "SessionStart",
    "Unacknowledged",
    "UnfinishedBatch",
    "archive_superseded",
    "check_unchanged",
    "ignore",
    "read_marks",
    "read_results",
    "recover",
    "reopen",
    "replace_atomically",
]
