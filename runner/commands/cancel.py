"""`runner cancel`: cancels the outstanding jobs of a run, and keeps the results that still arrive."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
import yaml

from runner.background.canceller import CancelCounts, CancelMode, NoRows
from runner.commands.host import raise_open_file_limit
from runner.commands.result import CommandResult
from runner.commands.signals import Signals
from runner.config import RunConfig
from runner.config.limits import Limits
from runner.engine.preflight import open_base_url, read_key
from runner.errors import Problem, RunDirError, RunnerError, StorageError
from runner.measure.history import History, recall
from runner.measure.summary import RunStatus, summarise, write_summary
from runner.measure.vitals import Vitals
from runner.session.clock import Clock
from runner.session.session import Assignment, Session
from runner.store import Manifest, RunDir, check_unchanged
from runner.streams import say
from runner.transport import open_transport


def cancel(path: Path, timeout_s: float, signals: Signals) -> CommandResult:
    """Cancel every outstanding job of a run, within about `timeout_s`. Raises `RunnerError`."""
    run_dir = RunDir(path)
    run_dir.check_exists()
    run_dir.lock()
    try:
        return _Cancellation(run_dir, timeout_s, signals).execute()
    finally:
        run_dir.unlock()


class _Cancellation:
    """One `runner cancel`, from the files to the summary. The `Host` of its session."""

    def __init__(self, run_dir: RunDir, timeout_s: float, signals: Signals) -> None:
        self._run_dir = run_dir
        self._timeout_s = timeout_s
        self._signals = signals
        self._config = _config_of(run_dir)
        self._key = read_key(self._config)
        raise_open_file_limit(self._config)
        self._vitals = Vitals()
        self._counts = CancelCounts()

    def execute(self) -> CommandResult:
        manifest = self._run_dir.read_manifest()
        check_unchanged(manifest, self._config, manifest.input, self._key, self._run_dir.path)
        for name, count in self._run_dir.repair().items():
            self.say(f"cut {count} bytes of a torn last line of {name}")
        history = recall(self._run_dir, manifest, manifest.rows)
        history.session.mode = self._config.target.mode
        batches = [batch for batch in history.recovery.batches.values() if batch.accepted]
        if batches:
            rows = sum(len(batch.rows) for batch in batches)
            said = "the Batch API cannot cancel; `runner run` collects the results"
            output = f"{rows:,} requests in {len(batches):,} batches are open"
            return CommandResult(1, (said, *_unacknowledged(history)), output)
        if not history.recovery.outstanding:
            return CommandResult(0, tuple(_unacknowledged(history)), "no job is open")
        self._signals.hold()
        try:
            ended_by = uvloop.run(self._cancel_all(manifest, history))
        except RunnerError as error:
            ended_by = error
        self._signals.hold()
        unwritten = self._write_summary(history)
        return self._result(history, ended_by or unwritten)

    def say(self, text: str) -> None:
        """Inform the user of something."""
        say(text, sys.stderr)

    def rows_low(self) -> None:
        """Do nothing: a cancellation sends no rows."""

    def stopping(self, error: RunnerError) -> None:
        """Do nothing: the outcome has the error."""

    async def _cancel_all(self, manifest: Manifest, history: History) -> RunnerError | None:
        """Return what ended it early, if anything did. Raises `StorageError`, `Interrupted`."""
        config, run_dir = self._config, self._run_dir
        async with AsyncExitStack() as stack:
            opening = open_base_url(config, run_dir.simulator, stack)
            base_url = await self._signals.interruptible(opening)
            self._signals.hold()
            session = Session(
                Assignment(
                    config=_without_limits(config),
                    run_id=manifest.run_id,
                    base_url=base_url,
                    rows=NoRows(),
                    files=run_dir.files(),
                    transport=open_transport(config, base_url, self._key, history.meter.wire),
                    clock=Clock(),
                    meter=history.meter,
                    in_flight=history.in_flight,
                    vitals=self._vitals,
                    session=history.next_session,
                    resumes=True,
                    ends_when_complete=False,
                    first_patience_s=self._timeout_s,  # a service may be starting; the time is limited anyhow
                ),
                lambda parts, _: CancelMode(parts, history.recovery.outstanding.values()),
                self,
            )
            self._counts = session.mode.counts
            shutdown, health = session.shutdown, session.health
            asyncio.get_running_loop().call_later(self._timeout_s, shutdown.end)
            self._signals.hand_to(shutdown.stop_by_signal)
            ended_by = (await session.run()).ended_by
            self._signals.hold()
            if ended_by is None and not health.is_confirmed and health.last_failure:
                return health.unreachable(health.last_failure)
            return ended_by

    def _write_summary(self, history: History) -> StorageError | None:
        """Write `summary.json`, and return what prevented it."""
        status: RunStatus = "complete" if history.in_flight.is_complete else "stopped"
        prices, session = self._config.prices, history.session
        summary = summarise(history.meter, history.in_flight, session, status, prices, self._vitals)
        try:
            write_summary(self._run_dir.summary, summary)
        except StorageError as error:
            return error
        return None

    def _result(self, history: History, ended_by: RunnerError | None) -> CommandResult:
        done, still_open = self._counts, history.in_flight.outstanding - self._counts.unknown
        counts = (
            f"{done.cancelled:,} cancelled, {done.ended:,} had ended or ended meanwhile (results kept), "
            f"{done.unknown:,} unknown to the service, {still_open:,} still open"
        )
        said = [*_unacknowledged(history)]
        if done.refusal:
            said.insert(0, f"not cancelled: {done.refusal.message}")
        if ended_by:
            return CommandResult(ended_by.exit_code, (str(ended_by), *said), counts)
        return CommandResult(1 if still_open else 0, tuple(said), counts)


def _config_of(run_dir: RunDir) -> RunConfig:
    """Return the resolved config that the run was made with. Raises `RunDirError`."""
    try:
        return RunConfig.model_validate(yaml.safe_load(run_dir.config.read_bytes()))
    except (OSError, yaml.YAMLError, ValueError) as error:
        what = f"is not the config of a run: {str(error).splitlines()[0]}"
        raise RunDirError(Problem(what, str(run_dir.config))) from None


def _without_limits(config: RunConfig) -> RunConfig:
    """Return the config without the limits that end a run early: a cancellation costs nothing."""
    limits = Limits(max_outage_s=config.limits.max_outage_s, drain_s=config.limits.drain_s)
    return config.model_copy(update={"limits": limits})


def _unacknowledged(history: History) -> Iterator[str]:
    count = history.recovery.unacknowledged_count
    if count:
        yield f"{count:,} requests were sent without an acknowledgement: they have no id to cancel them by"
