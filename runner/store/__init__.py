"""The run directory: identity, journal, results, and what they say after a crash."""

from runner.store.files import AppendLog, replace_atomically
from runner.store.journal import Acceptance, Intent, Journal, Retraction, SessionStart, session_starts
from runner.store.recovery import Recovery, Rows, Unacknowledged, recover
from runner.store.results import Line, Results, read_results
from runner.store.rundir import Manifest, RunDir, check_unchanged

__all__ = [
    "Acceptance",
    "AppendLog",
    "Intent",
    "Journal",
    "Line",
    "Manifest",
    "Recovery",
    "Results",
    "Retraction",
    "Rows",
    "RunDir",
    "SessionStart",
    "Unacknowledged",
    "check_unchanged",
    "read_results",
    "recover",
    "replace_atomically",
    "session_starts",
]
