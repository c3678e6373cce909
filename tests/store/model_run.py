"""A small model of a run: a service, and sessions that use the store as the runner does.

A session takes the steps of `runner/commands/run.py`, `runner/background/submitter.py` and `poller.py` in
their order. What it writes and reads is the store itself.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

from hypothesis import strategies as st

from runner.policy.idempotency import idempotency_key
from runner.records import Job, ResultStatus
from runner.store import (
    Acceptance,
    Intent,
    Journal,
    Recovery,
    Results,
    Retraction,
    RunDir,
    SessionStart,
    archive_superseded,
    ignore,
    read_marks,
    recover,
    reopen,
)
from runner.store.journal import read_journal
from tests.store.killing import Death, dying
from tests.store.samples import result

Fate = Literal["answered", "lost", "throttled"]
"""What happens to a POST. A lost one is accepted without an acknowledgement, a throttled one is rejected."""
Try = tuple[int, int]
"""A row and its epoch."""
NOW = 1_750_000_000.0


@dataclass(frozen=True)
class Session:
    """One `runner run`; `death` is None where nothing kills it."""

    death: Death | None = None
    retry: bool = False
    """Whether it is `runner run --retry failed`."""


@dataclass(frozen=True)
class History:
    """Everything that chance decides. The status of a job depends on row and epoch, never on the order."""

    failures: list[int]
    """Number of epochs in which each row fails before it completes."""
    exchanges: list[int]
    """Number of POSTs and GETs that find the job of each row unfinished."""
    fates: list[Fate]
    """Fates of the POSTs, in order; all later ones are answered."""
    turns: list[int]
    """Which of the outstanding rows takes each next step; after these turns, always the first."""
    sessions: list[Session]

    def status(self, row: int, epoch: int) -> ResultStatus:
        """Return the status with which the job of a row ends in an epoch."""
        return "failed" if epoch < self.failures[row] else "completed"


class Service:
    """Executes requests and counts them. Where keys are honoured, the same key is the same job."""

    def __init__(self, history: History, *, honours_keys: bool) -> None:
        self._history = history
        self._fates: Iterator[Fate] = chain(history.fates, repeat("answered"))
        self._keys: dict[str, str] | None = {} if honours_keys else None
        self._jobs: dict[str, Try] = {}
        self._polls: Counter[str] = Counter()
        self.executed: Counter[Try] = Counter()

    def post(self, key: str, row: int, epoch: int) -> tuple[Fate, str]:
        """Return the fate of a POST, and its job. Row and epoch stand for the body."""
        fate = next(self._fates)
        job = (self._keys or {}).get(key, f"job-{len(self._jobs)}")
        if fate != "throttled" and job not in self._jobs:
            self._jobs[job] = row, epoch
            self.executed[row, epoch] += 1
            if self._keys is not None:
                self._keys[key] = job
        return fate, job

    def poll(self, job: str) -> ResultStatus | None:
        """Return the status of a job, or None while it is not done."""
        row, epoch = self._jobs[job]
        self._polls[job] += 1
        is_working = self._polls[job] <= self._history.exchanges[row]
        return None if is_working else self._history.status(row, epoch)


class Run:
    """A run directory and the sessions that work on it; rows take their steps in turn."""

    def __init__(self, path: Path, history: History, *, keys: bool = True) -> None:
        self.dir = RunDir(path)
        self.service = Service(history, honours_keys=keys)
        self.unknown: set[Try] = set()
        """Tries about which the journal ended with an intent at the end of some session."""
        self.rows = len(history.failures)
        self._keys = keys
        self._turns = chain(history.turns, repeat(0))

    def session(self, session: Session) -> None:
        """Execute one session, to its end or its death."""
        with dying(session.death):
            self.dir.repair()
            if session.retry:
                reopen(self.dir, ["failed"], self.rows, NOW)
            recovery = self.recover()
            if recovery.has_superseded:
                archive_superseded(self.dir)
            if recovery.done.count < self.rows:
                self._work(recovery)
        last = {
            (entry.row, entry.epoch): entry
            for entry in read_journal(self.dir.journal)
            if isinstance(entry, Intent | Acceptance | Retraction)
        }
        self.unknown |= {tried for tried, entry in last.items() if isinstance(entry, Intent)}

    def recover(self) -> Recovery:
        """Read the run directory as the next session would."""
        return recover(self.dir, self.rows, ignore, ignore, marks=read_marks(self.dir.journal))

    def _work(self, recovery: Recovery) -> None:
        self._journal, self._results = Journal(self.dir.journal), Results(self.dir.results)
        with closing(self._journal.log), closing(self._results.log):
            self._journal.write(SessionStart(at=NOW))
            working = [self._poll(job) for job in recovery.outstanding.values()]
            to_send = (row for row in range(self.rows) if row not in recovery.outstanding)
            working += [self._submit(row, recovery) for row in to_send if row not in recovery.done]
            while working:
                steps = working[next(self._turns) % len(working)]
                if next(steps, "over") == "over":
                    working.remove(steps)

    def _submit(self, row: int, recovery: Recovery) -> Iterator[None]:
        """Do the submitter's steps: intent, POST, then a retraction, an acceptance or a result."""
        epoch = recovery.epochs.get(row, 0)
        key = idempotency_key("run", f"id-{row}", epoch, b"{}")
        before = recovery.unacknowledged.get(row)
        assert before is None or before.key == key
        intended = is_unknown = before is not None
        while True:
            yield
            if is_unknown and not self._keys:
                self._end(row, epoch, "uncertain")
                return
            if not intended:
                self._journal.intend([Intent(row, f"id-{row}", key, NOW, NOW, epoch)])
                intended = True
            fate, job = self.service.post(key, row, epoch)
            yield  # the answer is on its way
            if fate == "answered":
                break
            if fate == "lost":
                is_unknown = True
            elif not is_unknown:
                self._journal.write(Retraction(row, "429", NOW, epoch))
                intended = False
        status = self.service.poll(job)
        if status is None:
            self._journal.write(Acceptance(row, job, "m", 1, NOW, epoch))
            yield from self._poll(Job(row, f"id-{row}", job, "m", NOW, NOW, NOW, 1, epoch=epoch))
        else:
            self._end(row, epoch, status)

    def _poll(self, job: Job) -> Iterator[None]:
        """Do the poller's steps."""
        while (status := self.service.poll(job.id)) is None:
            yield
        yield
        self._end(job.row, job.epoch, status)

    def _end(self, row: int, epoch: int, status: ResultStatus) -> None:
        self._results.write(result(row, status=status, epoch=epoch))


TO_ITS_END = Session()
DEATHS = st.builds(Death, write=st.integers(0, 5) | st.integers(0, 20), byte=st.integers(0, 300))
"""Deaths of a session. No line is as long as 300 bytes: such a death comes right after a whole line."""
KILLED = st.lists(st.builds(Session, death=DEATHS, retry=st.booleans()), min_size=1, max_size=6)


@st.composite
def histories(draw: st.DrawFn, sessions: st.SearchStrategy[list[Session]] = KILLED) -> History:
    """Draw a history of up to four rows."""
    rows = draw(st.integers(1, 4))
    return History(
        failures=draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)),
        exchanges=draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)),
        fates=draw(st.lists(st.sampled_from(["answered", "lost", "throttled"]), max_size=12)),
        turns=draw(st.lists(st.integers(0, 3), max_size=40)),
        sessions=draw(sessions),
    )


@contextmanager
def run_of(history: History, *, keys: bool = True) -> Iterator[Run]:
    """Provide a run after its sessions and one more that nothing kills."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), history, keys=keys)
        for session in (*history.sessions, TO_ITS_END):
            run.session(session)
        yield run
