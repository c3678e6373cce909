"""The run directory: identity, journal, results, and what they say after a crash."""

from runner.store.files import AppendLog, Reserve, replace_atomically
from runner.store.identity import Manifest, check_unchanged
from runner.store.journal import Acceptance, Intent, Journal, Reopened, Retraction, SessionStart, read_marks
from runner.store.recovery import Recovery, Rows, Unacknowledged, recover
from runner.store.results import Line, Results, read_results
from runner.store.rundir import Files, RunDir
from runner.store.superseding import reopen, set_superseded_aside

__all__ = [
    "Acceptance",
    "AppendLog",
    "Files",
    "Intent",
    "Journal",
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
