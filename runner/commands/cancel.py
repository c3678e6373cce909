"""`runner cancel`: end what a run has open at the service, and keep what comes of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
import yaml

from runner.background.canceller import Canceller, Tally
from runner.commands.result import Ending
from runner.commands.signals import Signals
from runner.config import RunConfig
from runner.engine.preflight import allow_connections, open_address, read_key
from runner.errors import Interrupted, Problem, RunDirError, RunnerError, StorageError
from runner.measure.history import History, recall
from runner.measure.summary import RunStatus, summarise, write_summary
from runner.measure.vitals import Vitals
from runner.session.parts import Parts
from runner.session.shutdown import GRACE_S
from runner.store import Manifest, RunDir, check_unchanged
from runner.streams import say


def cancel(path: Path, timeout_s: float, signals: Signals) -> Ending:
    """Cancel every open job of a run, within about `timeout_s`. Raises `RunnerError`."""
    run_dir = RunDir(path)
    if not run_dir.exists:
        raise RunDirError(Problem("is not a run directory: it has no manifest.json", str(path)))
    run_dir.lock()
    try:
        return _Cancellation(run_dir, timeout_s, signals).execute()
    finally:
        run_dir.unlock()


class _Cancellation:
    """One `runner cancel`, from the files to the summary."""

    def __init__(self, run_dir: RunDir, timeout_s: float, signals: Signals) -> None:
        self._run_dir = run_dir
        self._timeout_s = timeout_s
        self._signals = signals
        self._config = _config_of(run_dir)
        self._key = read_key(self._config)
        allow_connections(self._config)
        self._tally = Tally()

    def execute(self) -> Ending:
        manifest = self._run_dir.read_manifest()
        check_unchanged(manifest, self._config, manifest.input, self._key, self._run_dir.path)
        for name, count in self._run_dir.repair().items():
            _say(f"cut {count} bytes of a torn last line of {name}")
        history = recall(self._run_dir, manifest, manifest.rows)
        history.session.mode = self._config.target.mode
        batches = [batch for batch in history.recovery.batches.values() if batch.accepted]
        if batches:
            rows = sum(len(batch.rows) for batch in batches)
            said = "the Batch API has no call that cancels; `runner run` collects what comes of them"
            result = f"{rows:,} requests in {len(batches):,} batches are open"
            return Ending(1, (said, *_of_unknown_fate(history)), result)
        jobs = len(history.recovery.outstanding)
        if not jobs:
            return Ending(0, tuple(_of_unknown_fate(history)), "no job is open")
        history.meter.open = jobs
        vitals = Vitals()
        self._signals.handler = Signals.ignore  # on record, and taken up once the loop runs
        try:
            ended_by = uvloop.run(self._cancel_all(manifest, history))
        except RunnerError as error:
            ended_by = error
        self._signals.handler = Signals.ignore
        is_complete = history.meter.done >= history.meter.total
        status: RunStatus = "complete" if is_complete else "stopped"
        summary = summarise(history.meter, history.session, status, self._config.prices, vitals)
        try:
            write_summary(self._run_dir.summary, summary)
        except StorageError as error:
            ended_by = ended_by or error
        return self._ending(history, ended_by)

    def _ending(self, history: History, ended_by: RunnerError | None) -> Ending:
        tally, still_open = self._tally, history.meter.open - self._tally.unknown
        counts = (
            f"{tally.cancelled:,} cancelled, {tally.ended:,} had ended or ended meanwhile (results kept), "
            f"{tally.unknown:,} unknown to the service, {still_open:,} still open"
        )
        said = [*_of_unknown_fate(history)]
        if tally.refusal:
            said.insert(0, f"not cancelled: {tally.refusal.message}")
        if ended_by:
            return Ending(ended_by.exit_code, (str(ended_by), *said), counts)
        return Ending(1 if still_open else 0, tuple(said), counts)

    async def _cancel_all(self, manifest: Manifest, history: History) -> RunnerError | None:
        """What ended it early, if anything. Raises `StorageError`, `Interrupted`."""
        config, run_dir = self._config, self._run_dir
        async with AsyncExitStack() as stack:
            address = await open_address(config, run_dir.simulator, self._signals, stack)
            parts = Parts.open(
                config,
                run_dir.files(),
                manifest.run_id,
                address,
                self._key,
                history.meter,
                _say,
                first_patience_s=self._timeout_s,  # a service may be starting; the time is limited anyhow
            )
            stack.push_async_callback(parts.close)
            parts.begin(history.next_session, resumes=True)
            canceller = Canceller(parts, history.recovery.outstanding.values())
            self._tally = canceller.tally
            parts.sink.on_broken = canceller.stop
            hurried = self._watch_signals()
            workers = min(config.submit.concurrency, history.meter.open)
            ended_by = await self._within_time(canceller, workers, hurried)
            parts.reserve.release()
            await parts.sink.rescue(config.limits.drain_s, hurried, _say)
            self._signals.handler = Signals.ignore
            contact = parts.contact
            if canceller.stopped_by is not None:
                raise canceller.stopped_by
            if ended_by is None and not contact.made and contact.last_failure:
                return contact.unreachable(contact.last_failure)
            return ended_by

    def _watch_signals(self) -> asyncio.Event:
        """Set by the first signal, which may have come while the simulator was starting."""
        hurried = asyncio.Event()
        self._signals.hand_to(asyncio.get_running_loop(), lambda _: hurried.set())
        if self._signals.received:
            hurried.set()
        return hurried

    async def _within_time(
        self, canceller: Canceller, workers: int, hurried: asyncio.Event
    ) -> RunnerError | None:
        """Until all is done, the time is over, or a signal comes; what is under way then gets its grace."""
        tasks = [asyncio.create_task(canceller.work()) for _ in range(workers)]
        finished = asyncio.ensure_future(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        hurry = asyncio.create_task(hurried.wait())
        await asyncio.wait((finished, hurry), timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
        canceller.turnstile.close()
        await asyncio.wait(tasks, timeout=GRACE_S)
        for task in (finished, hurry, *tasks):
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(end, RunnerError):
                return end
            if isinstance(end, Exception):
                raise end
        return Interrupted(self._signals.received[0]) if self._signals.received else None


def _config_of(run_dir: RunDir) -> RunConfig:
    """The resolved config that the run was made with. Raises `RunDirError`."""
    try:
        return RunConfig.model_validate(yaml.safe_load(run_dir.config.read_bytes()))
    except (OSError, yaml.YAMLError, ValueError) as error:
        what = f"is not the config of a run: {str(error).splitlines()[0]}"
        raise RunDirError(Problem(what, str(run_dir.config))) from None


def _of_unknown_fate(history: History) -> Iterator[str]:
    count = history.recovery.unacknowledged_count
    if count:
        yield f"{count:,} requests were sent without an acknowledgement: they have no id to cancel them by"


def _say(text: str) -> None:
    say(text, sys.stderr)
