"""`runner run`: checks everything, opens or resumes the run directory, works, and sums up."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from runner.commands.host import raise_open_file_limit, tune_gc
from runner.commands.report import report_end
from runner.commands.result import CommandResult
from runner.commands.signals import Signals
from runner.commands.sum_up import report_complete, sum_up
from runner.config import RunConfig
from runner.engine.leases import share
from runner.engine.preflight import open_base_url, read_key
from runner.engine.task import Engine, Task
from runner.errors import Problem, RunDirError, RunnerError, StorageError
from runner.measure.history import History, recall
from runner.measure.outputs.metrics_log import MetricsLog
from runner.measure.outputs.progress import Progress, open_progress
from runner.measure.sampling import Sampler
from runner.measure.vitals import Fleet, Vitals
from runner.records import ResultStatus
from runner.session.clock import Clock
from runner.source import Source
from runner.store import Manifest, RunDir, archive_superseded, check_unchanged, ignore, recover, reopen
from runner.transport import open_transport


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says in addition to the config."""

    new: bool = False
    limit: int | None = None
    retry: tuple[ResultStatus, ...] = ()
    """Statuses whose rows are retried, under a new epoch."""
    quiet: bool = False


def run(config: RunConfig, options: Options, signals: Signals) -> CommandResult:
    """Start the run or continue it, and report it. Raises `RunnerError` before anything is sent."""
    run_dir = RunDir(Path(config.sink.dir) / config.name)
    try:
        result = _Run(config, options, run_dir, signals).execute()
    finally:
        run_dir.unlock()
    signals.hold()
    if options.quiet:
        return CommandResult(result.exit_code, result.messages if result.exit_code else ())
    report, problems = report_end(run_dir.path)
    return CommandResult(result.exit_code, (*problems, *result.messages), report)


class _Run:
    """One `runner run`: its preparation and its end. An `Engine` does the work."""

    def __init__(self, config: RunConfig, options: Options, run_dir: RunDir, signals: Signals) -> None:
        self._config = config
        self._options = options
        self._run_dir = run_dir
        self._signals = signals
        self._key = read_key(config)
        raise_open_file_limit(share(config, 0))  # what one process needs
        self._source = Source(config)
        self._notes: list[str] = []

    def execute(self) -> CommandResult:
        manifest, is_resumed = self._open_run_dir()
        rows = min(manifest.rows, self._options.limit or manifest.rows)
        for name, count in self._run_dir.repair().items():
            self._notes.append(f"cut {count} bytes of a torn last line of {name}")
        if self._options.retry:
            self._reopen(rows)
        history = recall(self._run_dir, manifest, rows)
        history.session.mode = self._config.target.mode
        if history.recovery.has_superseded:  # a kill came in the middle of an earlier --retry
            archive_superseded(self._run_dir)
        if history.in_flight.is_complete:
            return report_complete(self._config, self._run_dir, history, self._notes)
        if is_resumed:
            self._note_resuming(history)
        vitals = Fleet() if self._config.engine.workers > 1 else Vitals()
        ended_by = self._work(manifest, history, rows, vitals)
        return sum_up(self._config, self._run_dir, history, vitals, ended_by)

    def _open_run_dir(self) -> tuple[Manifest, bool]:
        """Return the manifest, and whether the run is resumed. Raises `RunnerError`; nothing is sent."""
        config, run_dir = self._config, self._run_dir
        retry = bool(self._options.retry)
        if retry and not run_dir.exists:
            raise RunDirError(Problem("there is no run to retry", str(run_dir.path), "leave --retry out"))
        starts_over = not retry and (self._options.new or config.sink.on_existing == "new")
        # Before a directory is made, so that errors in the input leave nothing behind.
        survey = self._source.survey() if starts_over or not run_dir.exists else None
        run_dir.lock()
        if run_dir.exists and starts_over:
            self._notes.append(f"the earlier run is kept in {run_dir.set_aside()}")
        if not run_dir.exists:
            return run_dir.create(config, survey or self._source.survey(), self._key), False
        if config.sink.on_existing == "fail" and not retry:
            hint = "sink.on_existing is fail; start over with --new"
            raise RunDirError(Problem("the run exists already", str(run_dir.path), hint))
        manifest = run_dir.read_manifest()
        try:
            check_unchanged(manifest, config, self._source.fingerprint(), self._key, run_dir.path)
        except RunDirError:
            if not recover(run_dir, manifest.rows, ignore, ignore).is_empty:
                raise
            self._notes.append("nothing was accepted so far: the run starts over with what changed")
            return run_dir.create(config, self._source.survey(), self._key), False
        return manifest, True

    def _reopen(self, rows: int) -> None:
        count = reopen(self._run_dir, self._options.retry, rows, time.time())
        statuses = " or ".join(self._options.retry)
        self._notes.append(f"{count:,} {statuses} rows are retried" if count else f"no row is {statuses}")

    def _note_resuming(self, history: History) -> None:
        recovery = history.recovery
        history.session.continued = max(history.session.continued + 1, 1)
        self._notes.append(
            f"continuing {self._run_dir.path}: {recovery.done.count:,} done, "
            f"{recovery.outstanding_count:,} open, {recovery.unacknowledged_count:,} to be confirmed"
        )

    def _work(self, manifest: Manifest, history: History, rows: int, vitals: Vitals) -> RunnerError | None:
        """Run the event loop until the session ends, and return what ended it early."""
        progress = open_progress(history.in_flight, quiet=self._options.quiet)
        for note in self._notes if not self._options.quiet else ():
            progress.say(note)
        ended: list[RunnerError | None] = []

        async def session() -> None:
            async with AsyncExitStack() as stack:
                opening = open_base_url(self._config, self._run_dir.simulator, stack)
                base_url = await self._signals.interruptible(opening)
                self._signals.hold()
                history.meter.begin(time.time())
                task = Task(
                    config=self._config,
                    run_dir=self._run_dir,
                    manifest=manifest,
                    key=self._key,
                    base_url=base_url,
                    source=self._source,
                    history=history,
                    rows=rows,
                    vitals=vitals,
                )
                try:
                    ended.append(await self._run(task, progress))
                finally:
                    self._signals.hold()

        self._signals.hold()  # an exception in the middle of its start would break the loop
        try:
            uvloop.run(session())
        except RunnerError as error:
            return error
        except (OSError, RuntimeError):  # the loop could not be closed: it opens files to do so
            if not ended:
                raise
        finally:
            self._signals.hold()
        return ended[0]

    async def _run(self, task: Task, progress: Progress) -> RunnerError | None:
        """Run the session and show it while it lasts; return what ended it early. Raises `StorageError`."""
        clock = Clock()
        history = task.history
        sampler = Sampler(
            history.meter,
            history.in_flight,
            history.session,
            task.vitals,
            (progress, MetricsLog(task.run_dir.metrics)),
            clock.now_mono,
            clock.now,
        )
        sampler.start()
        try:
            engine = _engine_for(task, progress, clock)
            tune_gc()  # once the modules of the transport are loaded: the SDK's are many objects
            self._signals.hand_to(engine.shutdown.signal)
            outcome = await engine.run(sampler.run())
        except BaseException:  # a signal as well: the last sample is written all the same
            with suppress(StorageError):  # the first error counts
                sampler.close()
            raise
        sampler.close()
        return outcome.ended_by


def _engine_for(task: Task, progress: Progress, clock: Clock) -> Engine:
    """Return what works on the task: this process alone, or several."""
    if isinstance(task.vitals, Fleet):
        from runner.engine.coordinator import Coordinator
        from runner.engine.subprocess_worker import SubprocessWorker

        launch = partial(SubprocessWorker, task.run_dir.lock_fd)
        return Coordinator(task, task.vitals, progress.say, launch)
    from runner.engine.single import Single

    transport = open_transport(task.config, task.base_url, task.key, task.history.meter.wire)
    return Single(task, transport, progress.say, clock)
