"""Killed at any byte, as often as one likes, and continued: a run comes to the end that it would have had.

`Service` and `Run` are the runner's protocol in small. A session takes the steps of `runner/engine/local.py`,
`runner/pipeline/submitter.py` and `poller.py` in their order; what it writes and reads is the store itself.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from hypothesis import event, given, settings
from hypothesis import strategies as st

from runner.background.submission import idempotency_key
from runner.records import Job, Request, Result, ResultStatus
from runner.store import (
    Acceptance,
    Intent,
    Journal,
    Recovery,
    Results,
    Retraction,
    RunDir,
    SessionStart,
    read_marks,
    read_results,
    recover,
    reopen,
    archive_superseded,
)
from runner.store.files import read_lines
from runner.store.journal import read_journal

Fate = Literal["answered", "lost", "throttled"]
"""Of a POST: the acknowledgement of a lost one never arrives, a throttled one is surely not accepted."""
Try = tuple[int, int]
"""A row and its epoch."""
NOW = 1_750_000_000.0


@dataclass(frozen=True)
class Death:
    """Of the `write`-th write of a session only the first `byte` bytes reach the file, then it is dead."""

    write: int
    byte: int


@dataclass(frozen=True)
class Session:
    """One `runner run`; `death` is None where nothing kills it."""

    death: Death | None = None
    retry: bool = False
    """It is `runner run --retry failed`."""


@dataclass(frozen=True)
class History:
    """All that chance decides. What a job comes to depends on row and epoch only, never on the order."""

    failures: list[int]
    """Of each row: in how many epochs its job fails, before it completes in the next."""
    exchanges: list[int]
    """Of each row: how many POSTs and GETs find its job still working."""
    fates: list[Fate]
    """Of the POSTs, in order; all further ones are answered."""
    turns: list[int]
    """Which of the rows that are under way takes its next step; later on it is always the first."""
    sessions: list[Session]

    def status(self, row: int, epoch: int) -> ResultStatus:
        return "failed" if epoch < self.failures[row] else "completed"


class Service:
    """Executes what it is sent, and counts that; the same key is the same job, where keys are honoured."""

    def __init__(self, history: History, *, honours_keys: bool) -> None:
        self._history = history
        self._fates: Iterator[Fate] = chain(history.fates, repeat("answered"))
        self._keys: dict[str, str] | None = {} if honours_keys else None
        self._jobs: dict[str, Try] = {}
        self._looks: Counter[str] = Counter()
        self.executed: Counter[Try] = Counter()

    def post(self, key: str, row: int, epoch: int) -> tuple[Fate, str]:
        """What becomes of the POST, and the job. Row and epoch are in the body: they are only counted."""
        fate = next(self._fates)
        job = (self._keys or {}).get(key, f"job-{len(self._jobs)}")
        if fate != "throttled" and job not in self._jobs:
            self._jobs[job] = row, epoch
            self.executed[row, epoch] += 1
            if self._keys is not None:
                self._keys[key] = job
        return fate, job

    def look(self, job: str) -> ResultStatus | None:
        """How the job ended; None while it has not."""
        row, epoch = self._jobs[job]
        self._looks[job] += 1
        is_working = self._looks[job] <= self._history.exchanges[row]
        return None if is_working else self._history.status(row, epoch)


class Run:
    """A run directory and the sessions that work on it; rows take their steps in turn."""

    def __init__(
        self, path: Path, history: History, line: Callable[..., Result], *, keys: bool = True
    ) -> None:
        self.dir = RunDir(path)
        self.service = Service(history, honours_keys=keys)
        self.doubtful: set[Try] = set()
        """Tries that once were left with an intent as the last word of the journal on them."""
        self._keys = keys
        self.rows = len(history.failures)
        self._turns = chain(history.turns, repeat(0))
        self._line = line

    def session(self, session: Session) -> None:
        """As `_Local.execute`, to its end or its death."""
        with dying(session.death):
            self.dir.repair()
            if session.retry:
                reopen(self.dir, ["failed"], self.rows, NOW)
            recovery = self.recover()
            if recovery.has_superseded:
                archive_superseded(self.dir)
            if recovery.done.count < self.rows:
                self._work(recovery)
        entries = (entry for entry in read_journal(self.dir.journal) if not isinstance(entry, SessionStart))
        last = {(entry.row, entry.epoch): entry for entry in entries}
        self.doubtful |= {tried for tried, entry in last.items() if isinstance(entry, Intent)}

    def recover(self) -> Recovery:
        return recover(self.dir, self.rows, lambda _: None, marks=read_marks(self.dir.journal))

    def _work(self, recovery: Recovery) -> None:
        self._journal, self._results = Journal(self.dir.journal), Results(self.dir.results)
        try:
            self._journal.write(SessionStart(at=NOW))
            under_way = [self._poll(job) for job in recovery.outstanding.values()]
            to_send = (row for row in range(self.rows) if row not in recovery.outstanding)
            under_way += [self._submit(row, recovery) for row in to_send if row not in recovery.done]
            while under_way:
                steps = under_way[next(self._turns) % len(under_way)]
                if next(steps, "over") == "over":
                    under_way.remove(steps)
        finally:
            self._journal.log.close()
            self._results.log.close()

    def _submit(self, row: int, recovery: Recovery) -> Iterator[None]:
        """As the submitter: an intent before the POST; then a retraction, an acceptance or a result."""
        epoch = recovery.epochs.get(row, 0)
        key = idempotency_key("run", Request(row, f"id-{row}", b"{}", "m"), epoch)
        before = recovery.unacknowledged.get(row)
        assert before is None or before.key == key
        intended = in_doubt = before is not None
        while True:
            yield
            if in_doubt and not self._keys:
                self._end(row, epoch, "uncertain")
                return
            if not intended:
                self._journal.write(Intent(row, f"id-{row}", key, NOW, NOW, epoch))
                intended = True
            fate, job = self.service.post(key, row, epoch)
            yield  # the answer is on its way
            if fate == "answered":
                break
            if fate == "lost":
                in_doubt = True
            elif not in_doubt:
                self._journal.write(Retraction(row, "429", NOW, epoch))
                intended = False
        status = self.service.look(job)
        if status is None:
            self._journal.write(Acceptance(row, job, "m", 1, NOW, epoch))
            yield from self._poll(Job(row, f"id-{row}", job, "m", NOW, NOW, NOW, 1, epoch=epoch))
        else:
            self._end(row, epoch, status)

    def _poll(self, job: Job) -> Iterator[None]:
        """As the poller."""
        while (status := self.service.look(job.id)) is None:
            yield
        yield
        self._end(job.row, job.epoch, status)

    def _end(self, row: int, epoch: int, status: ResultStatus) -> None:
        self._results.write(self._line(row, status=status, epoch=epoch))


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the runner catches it, nothing is written after it."""


@contextmanager
def dying(death: Death | None) -> Iterator[None]:
    """Come to an end by this death, if the work does not end before."""
    write, writes = os.write, 0

    def mortal(fd: int, data: Any) -> int:
        nonlocal writes
        if death and writes == death.write:
            write(fd, data[: death.byte])
            raise Killed
        writes += 1
        return write(fd, data)

    with mock.patch.multiple("os", write=mortal, fsync=id, fdatasync=id):  # a kill, not a power cut
        try:
            yield
        except Killed:
            event("killed")


TO_ITS_END = Session()
DEATHS = st.builds(Death, write=st.integers(0, 5) | st.integers(0, 20), byte=st.integers(0, 300))
"""No line is as long as 300 bytes: such a death comes right after a whole line."""
KILLED = st.lists(st.builds(Session, death=DEATHS, retry=st.booleans()), min_size=1, max_size=6)


@st.composite
def histories(draw: st.DrawFn, sessions: st.SearchStrategy[list[Session]] = KILLED) -> History:
    rows = draw(st.integers(1, 4))
    return History(
        failures=draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)),
        exchanges=draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)),
        fates=draw(st.lists(st.sampled_from(["answered", "lost", "throttled"]), max_size=12)),
        turns=draw(st.lists(st.integers(0, 3), max_size=40)),
        sessions=draw(sessions),
    )


@contextmanager
def lived(history: History, line: Callable[..., Result], *, keys: bool = True) -> Iterator[Run]:
    """A run after its sessions, and one more that nothing kills."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), history, line, keys=keys)
        for session in (*history.sessions, TO_ITS_END):
            run.session(session)
        yield run


def final(run: Run) -> dict[int, tuple[ResultStatus, int]]:
    """Row → status and epoch, for a run that must be as a complete one is."""
    written = [(result.row, (result.status, result.epoch)) for result in read_results(run.dir.results)]
    final = dict(written)
    assert len(written) == len(final), "a row has two lines"
    epochs = read_marks(run.dir.journal).epochs
    assert {row: epoch for row, (_, epoch) in final.items()} == {
        row: epochs.get(row, 0) for row in range(run.rows)
    }
    superseded = sorted((old.row, old.epoch) for old in read_results(run.dir.superseded))
    assert superseded == sorted((row, old) for row, epoch in epochs.items() for old in range(epoch))
    return final


def retry_until_all_completed(run: Run, history: History) -> None:
    for _ in range(max(history.failures)):
        run.session(Session(retry=True))
    assert final(run) == {row: ("completed", failures) for row, failures in enumerate(history.failures)}


@given(history=histories())
@settings(max_examples=300)
def test_each_row_ends_once_in_its_last_epoch_and_every_try_was_executed_once(
    line: Callable[..., Result], history: Any
) -> None:
    with lived(history, line) as run:
        ended = final(run)
        superseded = [(old.status, old.row, old.epoch) for old in read_results(run.dir.superseded)]
    tries = {(row, epoch) for row, (_, last) in ended.items() for epoch in range(last + 1)}
    assert run.service.executed == dict.fromkeys(tries, 1)
    assert ended == {row: (history.status(row, epoch), epoch) for row, (_, epoch) in ended.items()}
    assert {status for status, _, _ in superseded} <= {"failed"}
    asked = sum(session.retry for session in history.sessions)
    assert all(epoch <= min(asked, history.failures[row]) for row, (_, epoch) in ended.items())


@given(history=histories())
@settings(max_examples=200)
def test_the_final_set_is_that_of_a_run_that_was_never_killed(
    line: Callable[..., Result], history: Any
) -> None:
    """Determined where nothing is retried, and once so much is that nothing is left to retry."""
    with lived(history, line) as run, lived(replace(history, sessions=[]), line) as uninterrupted:
        if not any(session.retry for session in history.sessions):
            assert final(run) == final(uninterrupted)
        retry_until_all_completed(run, history)
        retry_until_all_completed(uninterrupted, history)
        assert final(run) == final(uninterrupted)


ENDED_THEN_RETRIED = KILLED.map(lambda killed: [TO_ITS_END, replace(killed[0], retry=True), *killed[1:]])


@given(history=histories(ENDED_THEN_RETRIED))
@settings(max_examples=200)
def test_killed_at_any_byte_of_a_retry_a_row_is_reopened_or_not_and_no_line_is_lost(
    line: Callable[..., Result], history: Any
) -> None:
    """Lost for a moment is lost: a service may forget what it has delivered."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), history, line)
        written: set[bytes] = set()
        for session in (*history.sessions, TO_ITS_END):
            run.session(session)
            there = {raw for path in (run.dir.results, run.dir.superseded) for raw in read_lines(path)}
            assert there >= written
            written = there
        assert all(epoch <= history.failures[row] for row, (_, epoch) in final(run).items())
        retry_until_all_completed(run, history)
    assert set(run.service.executed.values()) == {1}


@given(history=histories())
@settings(max_examples=200)
def test_without_keys_what_is_in_doubt_is_never_sent_again(line: Callable[..., Result], history: Any) -> None:
    with lived(history, line, keys=False) as run:
        ended = final(run)
        superseded = {(old.row, old.epoch): old.status for old in read_results(run.dir.superseded)}
    tries = superseded | {(row, epoch): status for row, (status, epoch) in ended.items()}
    executed = run.service.executed
    for (row, epoch), status in tries.items():
        if status == "uncertain":
            assert (row, epoch) in run.doubtful, "the service was heard about it"
            assert executed[row, epoch] <= 1
        else:
            assert (status, executed[row, epoch]) == (history.status(row, epoch), 1)
    assert executed.keys() <= tries.keys()


@given(history=histories())
@settings(max_examples=100)
def test_what_a_kill_leaves_reads_the_same_twice_and_the_same_once_it_is_repaired(
    line: Callable[..., Result], history: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), history, line)
        for session in history.sessions:
            run.session(session)
            files = {path.name: path.read_bytes() for path in run.dir.logs if path.exists()}
            told = vars_of(run.recover())
            assert vars_of(run.recover()) == told
            assert {path.name: path.read_bytes() for path in run.dir.logs if path.exists()} == files
            run.dir.repair()
            assert vars_of(run.recover()) == told


def vars_of(recovery: Recovery) -> dict[str, Any]:
    """All that it says, in a form that can be compared."""
    return vars(recovery) | {"done": bytes(recovery.done._bits)}
