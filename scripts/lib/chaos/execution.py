"""Executes the plan of one trial: kills, tears and fills as planned, lets the run end, and examines it."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from scripts.lib.chaos.checks import Violation, violations
from scripts.lib.chaos.damage import FileLimit, Tmpfs, tear
from scripts.lib.chaos.examination import Examination
from scripts.lib.chaos.runner_process import RunnerProcess
from scripts.lib.chaos.stage import Broken, Stage
from scripts.lib.chaos.tally import EARLY_S, Tally
from scripts.lib.chaos.trial_plan import Act, Fill, Tear, TrialPlan

DISK_FULL: Final = ("No space left on device", "File too large")
SERVICE_AWAY: Final = ("limits.max_outage_s", "no Responses API answers there")
"""Parts of the messages with which a run stops because its service is away."""
MOST_RETRIES: Final = 12
ENDED_BY_SIGNAL: Final = (130, 143, -2, -15)
"""Exit codes after a signal; the negative ones while Python itself is still starting."""
PYTHON_NOT_STARTED: Final = ("Fatal Python error: init_import_site", "Could not import runpy module")
"""What Python prints about a signal that comes while Python itself is still starting."""


def execute(plan: TrialPlan, directory: Path, stop: threading.Event, *, keep: bool) -> Tally:
    """Execute a plan in an empty directory, and return what was done and found.

    Everything that was started or mounted is gone afterwards. The files of a mounted disk stay with `keep`,
    and if anything does not hold. Raises Stopped soon after `stop` is set.
    """
    execution = _Execution(plan, directory, stop)
    tally = execution.tally
    with ExitStack() as stack:
        execution.stage.open(stack, keeps_files=lambda: keep or bool(tally.violations))
        try:
            execution.run()
        except Broken as broken:
            tally.violations.append(Violation("otherwise wrong", str(broken)))
    return tally


class _Execution:
    """State of a trial that is being executed."""

    def __init__(self, plan: TrialPlan, directory: Path, stop: threading.Event) -> None:
        self._plan = plan
        self.stage: Final = Stage(plan, directory, stop)
        self.tally: Final = Tally(trials=1, rows=len(plan.rows))
        self._has_ended = False
        """Whether a process reached the end of the run before it was to be killed."""
        self._left_behind: list[str] = []
        """Temporary files found after a process had ended in order."""

    def run(self) -> None:
        """Play all acts, let the run end, and examine it. Raises Broken if it cannot end."""
        for act in self._plan.acts:
            if not self._has_ended:
                self._play(act)
        exit_code = self._finish()
        if self._plan.retry_kills:
            exit_code = self._retry_failed()
        examination = Examination(self.stage, self._plan)
        self.tally.uncertain = self.stage.files.count_ended("uncertain")
        # Every process but the last one, and every killed worker, may have left requests in doubt.
        deaths = self.stage.started - 1 + self.tally.worker_kills
        evidence = examination.evidence(exit_code, deaths, self._left_behind)
        self.tally.violations += violations(evidence)
        self.tally.violations += examination.run_complete_run_again(exit_code)

    def _play(self, act: Act) -> None:
        if act.fill:
            if self.stage.disk:
                self._fill_disk(self.stage.disk, act.fill)
            return
        if act.batch:
            self.stage.change_batches(act.batch)
        files = self.stage.files
        with self.stage.start(*(("--limit", str(act.limit)) if act.limit else ())) as process:
            if act.restart:
                self.stage.restart_service(act.restart, process)
                self.tally.restarts += 1
            if act.worker_kill and process.has_workers:
                self.stage.wait(process, files.watch(act.worker_kill))
                self.tally.worker_kills += process.kill_worker()
            self.stage.wait(process, files.watch(act.kill))
            if not self._is_ended_by(process, *act.signals) and self._is_run_over(process):
                self._has_ended = not act.limit
        if not files.is_complete:
            for how in act.tears:
                self._tear(how)

    def _tear(self, how: Tear) -> None:
        paths = self.stage.files.files(how.file)
        if paths and tear(paths[int(how.amount * (len(paths) - 1))], how):
            self.stage.note(f"torn: {how}")
            self.tally.torn += 1

    def _is_ended_by(self, process: RunnerProcess, *signals: str) -> bool:
        """End a process with signals; return False if it had ended by itself. Raises Broken."""
        age_s = process.age_s
        if process.end_with(*signals):
            in_doubt = self.stage.files.batches_in_doubt()
            self.stage.note(f"killed after {age_s:.2f} s, with {in_doubt} batches in doubt")
            self.tally.in_doubt += in_doubt
            self.tally.kills += 1
            self.tally.early_kills += age_s < EARLY_S
            return True
        if process.returncode in ENDED_BY_SIGNAL or process.has_printed(*PYTHON_NOT_STARTED):
            self.stage.note(f"ended with {process.returncode} by {signals} after {age_s:.2f} s")
            self.tally.signals += 1
            self._find_left_behind(process)
            return True
        return False

    def _fill_disk(self, disk: Tmpfs | FileLimit, fill: Fill) -> None:
        """Check that the run stops by itself each time it starts without room; then make room again."""
        disk.leave_room(fill.room_bytes)
        # A limit holds only for the process that it is set for, not for workers that have started.
        workers = 1 if isinstance(disk, FileLimit) else None
        for _ in range(2 if fill.is_repeated else 1):
            with self.stage.start(workers=workers) as process:
                self.stage.wait(process)
                if process.returncode == 3 and process.has_printed(*DISK_FULL):
                    self.stage.note("stopped: no room")
                    self.tally.disks += 1
                    self._find_left_behind(process)
                else:
                    self._has_ended = self._is_run_over(process)
                    break
        disk.make_room()

    def _retry_failed(self) -> int:
        """Retry failed rows until there are none, with kills at first; return the last exit code."""
        kills = list(self._plan.retry_kills)
        exit_code = 1
        for _ in range(MOST_RETRIES):
            if self.stage.files.count_ended("failed") == 0:
                return exit_code
            self.tally.retries += 1
            with self.stage.start("--retry", "failed") as process:
                if kills:
                    self.stage.wait(process, self.stage.files.watch(kills.pop()))
                else:
                    self.stage.wait(process)
                if not self._is_ended_by(process, "SIGKILL") and self._is_run_over(process):
                    exit_code = process.returncode
                    continue
            exit_code = self._finish()
        raise Broken(f"rows still fail after {MOST_RETRIES} retries")

    def _finish(self) -> int:
        """Start processes until the run has ended, and return the last exit code."""
        restart = self._plan.last_restart
        while True:
            with self.stage.start() as process:
                if restart:
                    self.stage.restart_service(restart, process)
                    self.tally.restarts += 1
                    restart = None
                self.stage.wait(process)
                if self._is_run_over(process):
                    return process.returncode

    def _is_run_over(self, process: RunnerProcess) -> bool:
        """Return False if an ended process stopped because the service was away. Raises Broken."""
        self.stage.note(f"ended with {process.returncode}")
        self._find_left_behind(process)
        if process.returncode == 3 and self.stage.was_restarted and process.has_printed(*SERVICE_AWAY):
            return False
        if process.returncode not in (0, 1) or process.has_printed("Traceback"):
            raise Broken(f"process {process.number} ended with {process.returncode}: {process.last_output}")
        return True

    def _find_left_behind(self, process: RunnerProcess) -> None:
        # Older files may be those of a killed process: this one may have ended before it removed them.
        names = self.stage.files.spooled(time.time() - process.age_s)
        self._left_behind += [f"{name} after process {process.number}" for name in names]
