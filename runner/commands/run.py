"""One run in this process: check everything, open or continue the run directory, work, sum up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from runner.commands.result import Ending
from runner.commands.signals import Signals
from runner.config import RunConfig
from runner.engine.leases import share
from runner.engine.preflight import allow_connections, open_address, read_key
from runner.engine.task import Task, tune_gc
from runner.errors import Interrupted, NothingAccepted, Problem, RunDirError, RunnerError, StorageError
from runner.measure.history import History, recall
from runner.measure.meter import Meter
from runner.measure.progress import open_progress
from runner.measure.summary import RunStatus, summarise, write_summary
from runner.measure.vitals import Fleet, Vitals
from runner.records import RESULT_STATUSES, ResultStatus
from runner.source import Source
from runner.store import Manifest, RunDir, check_unchanged, recover, reopen, archive_superseded


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the config."""

    new: bool = False
    limit: int | None = None
    retry: tuple[ResultStatus, ...] = ()
    """Rows that ended so are sent anew, under a new epoch."""
    quiet: bool = False


def execute(config: RunConfig, options: Options, signals: Signals) -> Ending:
    """Start the run or continue it. Raises `RunnerError` before anything is sent."""
    run_dir = RunDir(Path(config.sink.dir) / config.name)
    try:
        local = _Local(config, options, run_dir, signals)
        return local.execute()
    finally:
        run_dir.unlock()


class _Local:
    """Preparation and end of one session; the middle is `pipeline.run`."""

    def __init__(self, config: RunConfig, options: Options, run_dir: RunDir, signals: Signals) -> None:
        self._config = config
        self._options = options
        self._run_dir = run_dir
        self._signals = signals
        self._key = read_key(config)
        allow_connections(share(config, 0))  # what one process needs
        self._source = Source(config)
        self._notes: list[str] = []

    def execute(self) -> Ending:
        manifest, continued = self._open_run_dir()
        rows = min(manifest.rows, self._options.limit or manifest.rows)
        for name, count in self._run_dir.repair().items():
            self._notes.append(f"cut {count} bytes of a torn last line of {name}")
        if self._options.retry:
            self._reopen(rows)
        history = recall(self._run_dir, manifest, rows)
        history.session.mode = self._config.target.mode
        if history.recovery.has_superseded:  # a kill came in the middle of an earlier --retry
            archive_superseded(self._run_dir)
        if history.meter.done >= history.meter.total:
            return self._nothing_to_do(history)
        if continued:
            self._note_continuing(history)
        vitals = Fleet() if self._config.engine.workers > 1 else Vitals()
        ended_by = self._work(manifest, history, rows, vitals)
        return self._sum_up(history, vitals, ended_by)

    def _open_run_dir(self) -> tuple[Manifest, bool]:
        """The manifest, and whether it is that of an earlier session. Raises before anything is sent."""
        config, run_dir = self._config, self._run_dir
        retry = bool(self._options.retry)
        if retry and not run_dir.exists:
            raise RunDirError(Problem("there is no run to try again", str(run_dir.path), "leave --retry out"))
        fresh = not retry and (self._options.new or config.sink.on_existing == "new")
        # Bad input is told before a directory is made, so that it leaves nothing behind.
        survey = self._source.survey() if fresh or not run_dir.exists else None
        run_dir.lock()
        if run_dir.exists and fresh:
            self._notes.append(f"the earlier run is kept in {run_dir.set_aside()}")
        if not run_dir.exists:
            return run_dir.create(config, survey or self._source.survey(), self._key), False
        if config.sink.on_existing == "fail" and not retry:
            raise RunDirError(
                Problem("there is a run already", str(run_dir.path), "sink.on_existing is fail")
            )
        manifest = run_dir.read_manifest()
        try:
            check_unchanged(manifest, config, self._source.fingerprint(), self._key, run_dir.path)
        except RunDirError:
            if not recover(run_dir, manifest.rows, lambda _: None).is_empty:
                raise
            self._notes.append("nothing was accepted so far: the run is begun anew with what changed")
            return run_dir.create(config, self._source.survey(), self._key), False
        return manifest, True

    def _reopen(self, rows: int) -> None:
        count = reopen(self._run_dir, self._options.retry, rows, time.time())
        ended = " or ".join(self._options.retry)
        self._notes.append(
            f"{count:,} rows that ended {ended} are tried again" if count else f"no row ended {ended}"
        )

    def _note_continuing(self, history: History) -> None:
        recovery = history.recovery
        history.session.continued = max(history.session.continued + 1, 1)
        self._notes.append(
            f"continuing {self._run_dir.path}: {recovery.done.count:,} done, {recovery.outstanding_count:,} open, "
            f"{recovery.unacknowledged_count:,} to be confirmed"
        )

    def _nothing_to_do(self, history: History) -> Ending:
        meter = history.meter
        summary = summarise(meter, history.session, "complete", self._config.prices, None)
        if not _is_told(self._run_dir, summary):
            write_summary(self._run_dir.summary, summary)
        said = f"{self._run_dir.path} is complete: nothing was sent; --new starts it afresh"
        return Ending(1 if meter.not_completed else 0, (*self._notes, said, *_how_to_retry(meter)))

    def _work(self, manifest: Manifest, history: History, rows: int, vitals: Vitals) -> RunnerError | None:
        """Run the event loop until the session ends; return what ended it early."""
        config, run_dir, signals = self._config, self._run_dir, self._signals
        progress = open_progress(history.meter, quiet=self._options.quiet)
        for note in self._notes if not self._options.quiet else ():
            progress.say(note)
        tune_gc()
        ended: list[RunnerError | None] = []

        async def session() -> None:
            async with AsyncExitStack() as stack:
                base_url = await open_address(config, run_dir.simulator, signals, stack)
                signals.handler = Signals.ignore  # those that come now are on record, and are taken up soon
                history.meter.begin(time.time())
                task = Task(
                    config=config,
                    run_dir=run_dir,
                    manifest=manifest,
                    key=self._key,
                    base_url=base_url,
                    source=self._source,
                    history=history,
                    rows=rows,
                    vitals=vitals,
                    progress=progress,
                    signals=signals,
                )
                try:
                    ended.append(await _worked_on(task))
                finally:
                    signals.handler = Signals.ignore

        signals.handler = Signals.ignore  # an exception in the midst of its start would break the loop
        try:
            uvloop.run(session())
        except RunnerError as error:
            return error
        except (OSError, RuntimeError):  # the loop could not be closed: it opens files to do so
            if not ended:
                raise
        finally:
            signals.handler = Signals.ignore
            progress.close()
        return ended[0]

    def _sum_up(self, history: History, vitals: Vitals, ended_by: RunnerError | None) -> Ending:
        """Write `summary.json`; say how the run ended and how it goes on."""
        meter = history.meter
        status: RunStatus = "complete"
        if ended_by:
            status = "interrupted" if isinstance(ended_by, Interrupted) else "stopped"
        if isinstance(ended_by, StorageError):
            _recount(self._run_dir, history)
        summary = summarise(meter, history.session, status, self._config.prices, vitals)
        try:
            write_summary(self._run_dir.summary, summary)
        except StorageError as error:
            ended_by = ended_by or error
        if ended_by is None:
            said = f"results are in {_results(self._run_dir)}"
            return Ending(1 if meter.not_completed else 0, (said, *_how_to_retry(meter)))
        messages = [str(ended_by)]
        if meter.open:
            said = f"{meter.open:,} jobs are still open at the service, and billable"
            ask = f"`runner cancel {self._run_dir.path}` asks it to end them"
            is_batch = self._config.target.mode == "batch"
            messages.append(f"{said}; {'a batch cannot be cancelled' if is_batch else ask}")
        if meter.unacknowledged:
            messages.append(
                f"{meter.unacknowledged:,} requests were sent without an acknowledgement: perhaps billable"
            )
        if not isinstance(ended_by, NothingAccepted):
            messages.append(f"continue with the same command; what is done is in {_results(self._run_dir)}")
        return Ending(ended_by.exit_code, tuple(messages))


async def _worked_on(task: Task) -> RunnerError | None:
    """By this process, or by several; what ended it early."""
    if isinstance(task.vitals, Fleet):
        from runner.engine import coordinator

        return await coordinator.work(task, task.vitals)
    from runner.engine import single

    return await single.work(task)


def _results(run_dir: RunDir) -> Path:
    """Where they are, in words: several workers write several files."""
    only = len(run_dir.all_results) == 1
    return run_dir.results if only else run_dir.path / "results*.jsonl"


def _recount(run_dir: RunDir, history: History) -> None:
    """After a write error the files know better than the counters what is open."""
    with suppress(RunnerError):
        left = recover(run_dir, history.session.rows, lambda _: None)
        history.meter.open, history.meter.unacknowledged = left.outstanding_count, left.unacknowledged_count


def _how_to_retry(meter: Meter) -> Iterator[str]:
    ended = [status for status in RESULT_STATUSES[1:] if meter.statuses[status]]
    if ended:
        yield f"{meter.not_completed:,} did not end completed; --retry {','.join(ended)} sends them anew"


def _is_told(run_dir: RunDir, summary: dict[str, Any]) -> bool:
    """Whether `summary.json` says so already; a kill in the last moment leaves an older one, or none."""
    try:
        told = msgspec.json.decode(run_dir.summary.read_bytes())
        return bool(
            told["run"]["status"] == summary["run"]["status"] and told["requests"] == summary["requests"]
        )
    except (OSError, msgspec.DecodeError, LookupError, TypeError):
        return False
