"""Surroundings of a trial: its directory, config, service and disk. Starts the processes of its run."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from scripts.lib.chaos.damage import FileLimit, Tmpfs
from scripts.lib.chaos.killable_simulator import KillableSimulator
from scripts.lib.chaos.run_files import RunFiles
from scripts.lib.chaos.runner_process import POLL_S, RunnerProcess
from scripts.lib.chaos.trial_plan import Fill, Moment, ServiceKind, TrialPlan

ROOT: Final = Path(__file__).resolve().parents[3]
"""The checkout whose runner is tried."""
PATIENCE_S: Final = 120.0
"""Longest life of one process in seconds; a process that lives longer hangs."""


class Stopped(Exception):
    """The harness was interrupted."""


class Broken(Exception):
    """The run cannot be brought to its end; the message says why."""


class Stage:
    """One trial's directory, service and disk, and the processes that run there. `stop` ends every wait."""

    def __init__(self, plan: TrialPlan, directory: Path, stop: threading.Event) -> None:
        self._plan = plan
        self._directory = directory
        self._stop = stop
        self._runs = directory / "runs"
        self._config = {**plan.config, "target": {**plan.config["target"], "base_url": "simulator"}}
        self.env: Final = {**os.environ, "SAIL_API_KEY": "chaos", "PYTHONPATH": str(ROOT)}
        """Environment of all processes."""
        self.run_dir: Final = self._runs / "t"
        self.files: Final = RunFiles(self.run_dir, self.run_dir / "simulator.jsonl", len(plan.rows))
        self.simulator: KillableSimulator | None = None
        """The service; None if it is embedded in the run."""
        self.disk: Tmpfs | FileLimit | None = None
        """The disk that can become full, if this trial has one and it can be made."""
        self.started = 0
        """Processes started so far."""
        self.was_restarted = False
        """Whether the service was restarted since the last process started."""

    def open(self, stack: ExitStack, keeps_files: Callable[[], bool]) -> None:
        """Start the service, mount the disk, and write config and input. `stack` closes all of it."""
        plan = self._plan
        if plan.service is not ServiceKind.EMBEDDED:
            self.files.state = self._directory / "service.jsonl"
            self.simulator = KillableSimulator(plan.simulator, self.files.state, self.env)
            stack.callback(self.simulator.close)
            self.simulator.open()
            self._config["target"]["base_url"] = self.simulator.base_url
        if plan.fill:
            self._open_disk(plan.fill, stack, keeps_files)
        if plan.service is ServiceKind.EMBEDDED:
            self._config["simulator"] = plan.simulator
        self._write_config()
        (self._directory / "input.jsonl").write_bytes(plan.input)

    def change_batches(self, section: Mapping[str, Any]) -> None:
        """Change keys of the config's section `batch` for all processes that follow."""
        self._config["batch"] = {**self._config["batch"], **section}
        self._write_config()

    def start(self, *options: str, workers: int | None = None) -> RunnerProcess:
        """Start `runner run`, once the service is there; `workers` replaces the planned number."""
        if self.simulator:
            self.simulator.wait_until_ready()
        self.was_restarted = False
        self.started += 1
        workers = workers or self._plan.workers[self.started % len(self._plan.workers)]
        command = [sys.executable, "-m", "runner", "run", "config.yaml", "--quiet", *options]
        command += ["--workers", str(workers)]
        process = RunnerProcess(self.started, command, self._directory, self.env, has_workers=workers > 1)
        if isinstance(self.disk, FileLimit):
            self.disk.apply_to(process.popen)
        return process

    def wait(self, process: RunnerProcess, has_come: Callable[[], bool] = lambda: False) -> None:
        """Return when the process has ended, or earlier when `has_come` returns True.

        Raises Stopped if the harness is interrupted, and Broken if the process hangs.
        """
        while not process.ends_within(POLL_S) and not has_come():
            if self._stop.is_set():
                raise Stopped
            if process.age_s > PATIENCE_S:
                raise Broken(f"process {process.number} did not end in {PATIENCE_S:g} s")

    def restart_service(self, moment: Moment, process: RunnerProcess) -> None:
        """Kill the service at a moment in the life of a process, and start it again."""
        assert self.simulator
        self.wait(process, self.files.watch(moment))
        self.simulator.kill()
        self.simulator.launch()
        self.note(f"service restarted after {process.age_s:.2f} s")
        self.was_restarted = True

    def note(self, event: str) -> None:
        """Add a line to `story.txt`, for people who examine a directory that was kept."""
        with (self._directory / "story.txt").open("a") as file:
            file.write(f"{time.time():.3f} process {self.started}: {event}\n")

    def _write_config(self) -> None:
        (self._directory / "config.yaml").write_text(json.dumps(self._config))  # JSON is YAML

    def _open_disk(self, fill: Fill, stack: ExitStack, keeps_files: Callable[[], bool]) -> None:
        tmpfs = Tmpfs.mount(self._runs) if fill.by == "disk" else None
        if tmpfs:
            self.disk = tmpfs
            stack.callback(lambda: tmpfs.unmount(keep=keeps_files()))
        elif self._plan.service is not ServiceKind.EMBEDDED and sys.platform == "linux":
            self.disk = FileLimit(self._runs)
