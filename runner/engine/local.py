"""One run in this process: check everything, open or continue the run directory, work, sum up."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
import uvloop

from runner.config import EMBEDDED, RunConfig
from runner.errors import ConfigError, Interrupted, Problem, RunDirError, RunnerError, StorageError
from runner.measure.history import History, recall
from runner.measure.meter import Meter
from runner.measure.progress import Progress, open_progress
from runner.measure.summary import RunStatus, summarise
from runner.measure.vitals import Vitals
from runner.pipeline.run import Assignment, run
from runner.source import Source, Survey
from runner.store import Manifest, RunDir, check_unchanged, replace_atomically

GC_THRESHOLD: Final = 50_000
"""Allocations between collections: a run makes few cycles, and the default looks for them all the time."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the config."""

    new: bool = False
    limit: int | None = None
    quiet: bool = False


def execute(config: RunConfig, options: Options) -> int:
    """Start the run or continue it; return the exit code. Raises `RunnerError` before anything is sent."""
    with _signals_raise():
        key = read_key(config)
        source = Source(config)
        run_dir = RunDir(Path(config.sink.dir) / config.name)
        try:
            prepared = _prepare(config, options, source, run_dir, key)
            if prepared.meter.done >= prepared.meter.total:
                return _nothing_to_do(prepared, run_dir)
        except BaseException:
            run_dir.unlock()
            raise
    try:
        return _work(prepared, config, options, run_dir, source, key)
    finally:
        run_dir.unlock()


def read_key(config: RunConfig) -> str:
    """The API key from the environment. Raises `ConfigError` where it is not set; the simulator takes any."""
    name = config.target.api_key_env
    key = os.environ.get(name, "").strip()
    if config.target.base_url == EMBEDDED and config.simulator.api_key_env is None:
        return key or EMBEDDED
    if not key:
        raise ConfigError(
            Problem(
                f"the environment variable {name} with the API key is not set",
                "target.api_key_env",
                f"export {name}=…",
            )
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(Problem(f"the API key in {name} has characters that no header can carry"))
    return key


@dataclass(frozen=True, slots=True)
class _Prepared:
    manifest: Manifest
    history: History
    notes: tuple[str, ...]

    @property
    def meter(self) -> Meter:
        return self.history.meter


def _prepare(config: RunConfig, options: Options, source: Source, run_dir: RunDir, key: str) -> _Prepared:
    """A new run directory, or the state that an earlier session left. Raises before anything is sent."""
    notes: list[str] = []
    fresh = options.new or config.sink.on_existing == "new"
    survey: Survey | None = None
    if fresh or not run_dir.exists:
        survey = source.survey()  # before the directory is made: bad input leaves nothing behind
    run_dir.lock()
    if run_dir.exists and fresh:
        notes.append(f"the earlier run is kept in {run_dir.set_aside()}")
    elif run_dir.exists and config.sink.on_existing == "fail":
        raise RunDirError(Problem("there is a run already", str(run_dir.path), "sink.on_existing is fail"))
    continued = run_dir.exists
    if continued:
        manifest = run_dir.read_manifest()
        check_unchanged(manifest, config, source.fingerprint(), key, run_dir.path)
    else:
        manifest = run_dir.create(config, survey or source.survey(), key)
    history = recall(run_dir, manifest, min(manifest.rows, options.limit or manifest.rows), repair=True)
    recovery = history.recovery
    if continued:
        history.session.continued += 1
        notes.append(
            f"continuing {run_dir.path}: {recovery.done.count:,} done, {len(recovery.open):,} open, "
            f"{len(recovery.unacknowledged):,} to be confirmed"
        )
    for name, count in recovery.torn_bytes.items():
        notes.append(f"cut {count} bytes of a torn last line of {name}")
    return _Prepared(manifest, history, tuple(notes))


def _nothing_to_do(prepared: _Prepared, run_dir: RunDir) -> int:
    print(f"{run_dir.path} is complete: nothing was sent. --new starts it afresh.", file=sys.stderr)
    run_dir.unlock()
    return 1 if prepared.meter.not_completed else 0


def _work(
    prepared: _Prepared, config: RunConfig, options: Options, run_dir: RunDir, source: Source, key: str
) -> int:
    progress = open_progress(prepared.meter, quiet=options.quiet)
    for note in prepared.notes:
        progress.say(note)
    vitals = Vitals()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)

    async def session() -> RunnerError | None:
        async with AsyncExitStack() as stack:
            base_url = config.target.base_url
            if base_url == EMBEDDED:
                from runner.simulator.embedded import Embedded  # needed by runs against it alone

                base_url = (
                    await stack.enter_async_context(Embedded(config.simulator, run_dir.simulator))
                ).base_url
            return await run(
                Assignment(
                    config=config,
                    run_id=prepared.manifest.run_id,
                    base_url=base_url,
                    key=key,
                    total=prepared.meter.total,
                    source=source,
                    run_dir=run_dir,
                    recovery=prepared.history.recovery,
                    meter=prepared.meter,
                    session=prepared.history.session,
                    vitals=vitals,
                    progress=progress,
                )
            )

    try:
        ended_by = uvloop.run(session())
    except RunnerError as error:
        ended_by = error
    progress.close()
    return _sum_up(prepared, config, run_dir, vitals, ended_by)


def _sum_up(
    prepared: _Prepared, config: RunConfig, run_dir: RunDir, vitals: Vitals, ended_by: RunnerError | None
) -> int:
    """Write `summary.json`, say how the run ended and how it goes on; return the exit code."""
    meter = prepared.meter
    status: RunStatus = "complete"
    if ended_by:
        status = "interrupted" if isinstance(ended_by, Interrupted) else "stopped"
    summary = summarise(meter, prepared.history.session, status, config.prices, vitals)
    try:
        replace_atomically(
            run_dir.summary, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
        )
    except StorageError as error:
        ended_by = ended_by or error
    if ended_by is None:
        return 1 if meter.not_completed else 0
    print(f"runner: {ended_by}", file=sys.stderr)
    if meter.open:
        print(
            f"runner: {meter.open:,} jobs are still open at the service and may be billed; "
            "the same command continues with them",
            file=sys.stderr,
        )
    else:
        print("runner: the same command continues this run", file=sys.stderr)
    return ended_by.exit_code


@contextmanager
def _signals_raise() -> Iterator[None]:
    """While nothing is sent yet, SIGTERM ends the command as Ctrl-C does."""

    def handler(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    before = {signum: signal.signal(signum, handler) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
