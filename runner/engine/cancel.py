"""`runner cancel`: end what a run has open at the service, and keep what comes of it."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
import yaml

from runner.config import RunConfig
from runner.engine.ending import Ending
from runner.engine.surroundings import allow_connections, open_address, read_key
from runner.errors import Interrupted, Problem, RunDirError, RunnerError
from runner.measure.history import History, recall
from runner.measure.summary import RunStatus, summarise, write_summary
from runner.measure.vitals import Vitals
from runner.pipeline.canceller import Canceller, Tally
from runner.pipeline.clock import Clock
from runner.pipeline.closing import GRACE_S
from runner.pipeline.contact import Contact
from runner.pipeline.limits import Limits
from runner.pipeline.parts import Parts
from runner.pipeline.signals import Signals
from runner.pipeline.sink import Sink
from runner.store import Journal, Manifest, Results, RunDir, SessionStart, check_unchanged
from runner.streams import say
from runner.transport import open_transport


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
        jobs = len(history.recovery.open)
        if not jobs:
            return Ending(0, tuple(_of_unknown_fate(history)), "no job is open")
        history.meter.open = jobs
        vitals = Vitals()
        ended_by = uvloop.run(self._cancel_all(manifest, history))
        is_complete = history.meter.done >= history.meter.total
        status: RunStatus = "complete" if is_complete else "stopped"
        summary = summarise(history.meter, history.session, status, self._config.prices, vitals)
        write_summary(self._run_dir.summary, summary)
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
        """What ended it early, if anything. Raises `StorageError` from the last sync."""
        config, run_dir = self._config, self._run_dir
        async with AsyncExitStack() as stack:
            address = await open_address(config, run_dir.simulator, self._signals, stack)
            clock = Clock()
            journal, results = Journal(run_dir.journal), Results(run_dir.results)
            stack.callback(results.log.close)
            stack.callback(journal.log.close)
            journal.write(SessionStart(at=clock.unix(clock.now())))
            history.meter.restarts.append(clock.unix(clock.now()))
            sink = Sink(results, journal, history.meter, config.sink.store, config.sink.fsync_s)
            transport = open_transport(config, address, self._key)
            stack.push_async_callback(transport.close)
            parts = Parts(
                config=config,
                run_id=manifest.run_id,
                transport=transport,
                journal=journal,
                sink=sink,
                meter=history.meter,
                clock=clock,
                contact=Contact(config, address, _say),
                limits=Limits(config, history.meter),
                warn=_say,
                random=random.Random(manifest.run_id),
            )
            canceller = Canceller(parts, history.recovery.open.values())
            self._tally = canceller.tally
            try:
                return await self._within_time(canceller, min(config.submit.concurrency, history.meter.open))
            finally:
                await asyncio.to_thread(sink.sync)

    async def _within_time(self, canceller: Canceller, workers: int) -> RunnerError | None:
        """Until all is done, the time is over, or a signal comes; what is under way then gets its grace."""
        signalled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hurry(_: int) -> None:
            if not signalled.done():
                signalled.set_result(None)

        self._signals.hand_to(signalled.get_loop(), hurry)
        for signum in self._signals.received:  # while the simulator was starting
            hurry(signum)
        tasks = [asyncio.create_task(canceller.work()) for _ in range(workers)]
        finished = asyncio.ensure_future(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        await asyncio.wait(
            (finished, signalled), timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        canceller.turnstile.close()
        await asyncio.wait(tasks, timeout=GRACE_S)
        for task in (finished, *tasks):
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
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
    count = len(history.recovery.unacknowledged)
    if count:
        yield f"{count:,} requests were sent without an acknowledgement: they have no id to cancel them by"


def _say(text: str) -> None:
    say(text, sys.stderr)
