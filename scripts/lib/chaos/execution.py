"""One trial: a run that is killed, torn and left without room as planned, then left to end, then examined."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from scripts.lib.chaos.checks import Evidence, Violation, violations
from scripts.lib.chaos.damage import FileLimit, Tmpfs, tear
from scripts.lib.chaos.killable_simulator import Service, remembered
from scripts.lib.chaos.run_files import Traces
from scripts.lib.chaos.runner_process import GLANCE_S, Process
from scripts.lib.chaos.tally import STARTING_S, Tally
from scripts.lib.chaos.trial_plan import Act, Fill, Kind, Moment, Plan

ROOT: Final = Path(__file__).resolve().parents[3]
PATIENCE_S: Final = 120.0
"""For one process; one that takes longer hangs."""
NO_ROOM: Final = ("No space left on device", "File too large")
AWAY: Final = ("nothing but failures for", "no Responses API answers there")
MOST_RETRIES: Final = 12
ASKED_TO_END: Final = (130, 143, -2, -15)
"""Exit codes after a signal; that of the system's own doing while Python is still starting."""
HAD_NOT_BEGUN: Final = ("Fatal Python error: init_import_site", "Could not import runpy module")
"""Said by Python itself of a signal that comes in the midst of its own start."""


class Stopped(Exception):
    """The harness was interrupted."""


class Broken(Exception):
    """The run cannot be brought to its end; carries what was wrong."""


class Trial:
    """Carries a plan out in an empty directory. `stop` ends it early, with `Stopped`."""

    def __init__(self, plan: Plan, directory: Path, stop: threading.Event) -> None:
        self._plan = plan
        self._directory = directory
        self._stop = stop
        self._runs = directory / "runs"
        self._run = self._runs / "t"
        self._env = {**os.environ, "SAIL_API_KEY": "chaos", "PYTHONPATH": str(ROOT)}
        self._service: Service | None = None
        self._traces = Traces(self._run, self._run / "simulator.jsonl", len(plan.rows))
        self._disk: Tmpfs | FileLimit | None = None
        self._processes = 0
        self._restarted = False
        """The service was, while the process at work ran."""
        self._ended = False
        """A process came to the end of the run by itself, before it was to be killed."""
        self._left_behind: list[str] = []
        """Files for the time of an upload that were there after an end in order."""
        self._config = {**plan.config, "target": {**plan.config["target"], "base_url": "simulator"}}
        self._tally = Tally(trials=1, rows=len(plan.rows))

    def carry_out(self, *, keep: bool) -> Tally:
        """Everything that was started or mounted is gone when this returns; the files are not with `keep`,
        nor where anything did not hold."""
        with ExitStack() as stack:
            self._open(stack, keep)
            try:
                for act in self._plan.acts:
                    if not self._ended:
                        self._play(act)
                exit_code = self._finish()
                if self._plan.retry_kills:
                    exit_code = self._retry_failed()
                self._tally.violations += violations(self._evidence(exit_code))
                self._tally.violations += self._run_again(exit_code)
            except Broken as broken:
                self._tally.violations.append(Violation("otherwise wrong", str(broken)))
        return self._tally

    def _open(self, stack: ExitStack, keep: bool) -> None:
        plan = self._plan
        if plan.kind is not Kind.EMBEDDED:
            self._traces.state = self._directory / "service.jsonl"
            self._service = Service(plan.settings, self._traces.state, self._env)
            stack.callback(self._service.close)
            self._service.open()
            self._config["target"]["base_url"] = self._service.base_url
        if plan.fill:
            self._open_disk(plan.fill, stack, keep)
        if plan.kind is Kind.EMBEDDED:
            self._config["simulator"] = plan.settings
        self._write_config()
        (self._directory / "input.jsonl").write_bytes(plan.input)

    def _write_config(self) -> None:
        (self._directory / "config.yaml").write_text(json.dumps(self._config))  # JSON is YAML

    def _open_disk(self, fill: Fill, stack: ExitStack, keep: bool) -> None:
        tmpfs = Tmpfs.mount(self._runs) if fill.by == "disk" else None
        if tmpfs:
            self._disk = tmpfs
            stack.callback(lambda: tmpfs.unmount(keep=keep or bool(self._tally.violations)))
        elif self._plan.kind is not Kind.EMBEDDED and sys.platform == "linux":
            self._disk = FileLimit(self._runs)

    def _play(self, act: Act) -> None:
        if act.fill:
            if self._disk:
                self._fill_up(self._disk, act.fill)
            return
        if act.batch:
            self._config["batch"] = {**self._config["batch"], **act.batch}
            self._write_config()
        with self._started(*(("--limit", str(act.limit)) if act.limit else ())) as process:
            if act.restart:
                self._restart_service_at(act.restart, process)
            if act.worker_kill and process.has_workers:
                self._wait(process, self._traces.reached(act.worker_kill))
                self._tally.worker_kills += process.kill_a_worker()
            self._wait(process, self._traces.reached(act.kill))
            if not self._killed(process, *act.signals) and self._came_to_its_end(process):
                self._ended = not act.limit
        for how in () if self._traces.is_told else act.tears:
            files = self._traces.files(how.file)
            if files and tear(files[int(how.amount * (len(files) - 1))], how):
                self._note(f"torn: {how}")
                self._tally.torn += 1

    def _killed(self, process: Process, *signals: str) -> bool:
        """Whether it did not come to its end before, or in spite of that. Raises `Broken`."""
        age_s = process.age_s
        if process.end_with(*signals):
            in_doubt = self._traces.in_doubt()
            self._note(f"killed after {age_s:.2f} s, with {in_doubt} batches in doubt")
            self._tally.in_doubt += in_doubt
            self._tally.kills += 1
            self._tally.early_kills += age_s < STARTING_S
            return True
        if process.returncode in ASKED_TO_END or process.said(*HAD_NOT_BEGUN):
            self._note(f"ended with {process.returncode} by {signals} after {age_s:.2f} s")
            self._tally.signals += 1
            self._look_for_what_is_left(process)
            return True
        return False

    def _fill_up(self, disk: Tmpfs | FileLimit, fill: Fill) -> None:
        """The run must stop by itself, as often as it is started without room; then there is room again."""
        disk.leave_room(fill.room_bytes)
        # A limit holds for the process that it is set for, and not for workers that it has started.
        workers = 1 if isinstance(disk, FileLimit) else None
        for _ in range(2 if fill.again else 1):
            with self._started(workers=workers) as process:
                self._wait(process, lambda: False)
                if process.returncode == 3 and process.said(*NO_ROOM):
                    self._note("stopped: no room")
                    self._tally.disks += 1
                    self._look_for_what_is_left(process)
                else:
                    self._ended = self._came_to_its_end(process)
                    break
        disk.make_room()

    def _retry_failed(self) -> int:
        """Try failed rows again until there are none, with kills at first; the last exit code."""
        kills = list(self._plan.retry_kills)
        exit_code = 1
        for _ in range(MOST_RETRIES):
            if self._traces.count_ended("failed") == 0:
                return exit_code
            self._tally.retries += 1
            kill = kills.pop() if kills else None
            with self._started("--retry", "failed") as process:
                self._wait(process, self._traces.reached(kill) if kill else lambda: False)
                if not self._killed(process, "SIGKILL") and self._came_to_its_end(process):
                    exit_code = process.returncode
                    continue
            exit_code = self._finish()
        raise Broken(f"rows still fail after {MOST_RETRIES} retries")

    def _finish(self) -> int:
        """Let it run to its end, and say with what exit code."""
        restart = self._plan.last_restart
        while True:
            with self._started() as process:
                if restart:
                    self._restart_service_at(restart, process)
                    restart = None
                self._wait(process, lambda: False)
                if self._came_to_its_end(process):
                    return process.returncode

    def _came_to_its_end(self, process: Process) -> bool:
        """Whether all is done; False where it stopped because the service was away. Raises `Broken`."""
        self._note(f"ended with {process.returncode}")
        self._look_for_what_is_left(process)
        if process.returncode == 3 and self._restarted and process.said(*AWAY):
            return False
        if process.returncode not in (0, 1) or process.said("Traceback"):
            raise Broken(f"process {process.number} ended with {process.returncode}: {process.last_words}")
        return True

    def _started(self, *more: str, workers: int | None = None) -> Process:
        """`runner run`, with the service there, and as many workers as it is this process's turn to have."""
        if self._service:
            self._service.ready()
        self._restarted = False
        self._processes += 1
        workers = workers or self._plan.workers[self._processes % len(self._plan.workers)]
        command = [sys.executable, "-m", "runner", "run", "config.yaml", "--quiet", *more]
        command += ["--workers", str(workers)]
        process = Process(self._processes, command, self._directory, self._env, has_workers=workers > 1)
        if isinstance(self._disk, FileLimit):
            self._disk.apply_to(process.popen)
        return process

    def _restart_service_at(self, moment: Moment, process: Process) -> None:
        assert self._service
        self._wait(process, self._traces.reached(moment))
        self._service.kill()
        self._service.launch()
        self._note(f"service restarted after {process.age_s:.2f} s")
        self._restarted = True
        self._tally.restarts += 1

    def _wait(self, process: Process, reached: Callable[[], bool]) -> None:
        """Return when `reached` says so, or the process has ended. Raises `Broken` where it hangs."""
        while not process.ended_within(GLANCE_S) and not reached():
            if self._stop.is_set():
                raise Stopped
            if process.age_s > PATIENCE_S:
                raise Broken(f"process {process.number} did not end in {PATIENCE_S:g} s")

    def _evidence(self, exit_code: int) -> Evidence:
        if self._service:
            self._service.ready()
        command = [sys.executable, "-m", "runner", "report", str(self._run), "--json"]
        report = subprocess.run(command, env=self._env, capture_output=True, check=False)
        if report.returncode:
            raise Broken(f"runner report ended with {report.returncode}: {report.stderr.decode()[-500:]}")
        self._tally.uncertain = self._traces.count_ended("uncertain")
        superseded = self._run / "superseded.jsonl"
        return Evidence(
            rows=self._plan.rows,
            may_doubt=self._may_doubt,
            most_in_doubt=self._most_in_doubt,
            exit_code=exit_code,
            results=self._traces.content("results"),
            superseded=superseded.read_bytes() if superseded.exists() else b"",
            journal=self._traces.content("journal"),
            summary=json.loads((self._run / "summary.json").read_bytes()),
            report=json.loads(report.stdout),
            jobs=self._service.jobs() if self._service else remembered(self._traces.state),
            stats=self._service.stats() if self._service else None,
            left_behind=self._left_behind,
        )

    @property
    def _may_doubt(self) -> bool:
        """Whether a lost acknowledgement may leave the fate of a row in doubt."""
        batches = self._plan.settings.get("batches", {"labels": False})
        can_find = batches.get("labels", True) and batches.get("listing", True)
        return self._plan.kind is Kind.UNKEYED and not can_find

    @property
    def _most_in_doubt(self) -> int:
        """Rows that all processes can have left so."""
        if self._plan.mode == "batch":
            return len(self._plan.rows)
        return int(self._plan.config["submit"]["concurrency"] * self._deaths)

    def _run_again(self, exit_code: int) -> Iterator[Violation]:
        """A run that is complete: nothing is sent, nothing changes, and it says the same."""
        before = self._traces.all_content()
        with self._started() as process:
            self._wait(process, lambda: False)
        if process.returncode != exit_code:
            said = f"run again it ended with {process.returncode}: {process.last_words}"
            yield Violation("otherwise wrong", said)
        if self._traces.all_content() != before:
            yield Violation("otherwise wrong", "run again when it was complete, it did something")

    @property
    def _deaths(self) -> int:
        """Of processes that may have left requests without an acknowledgement."""
        return self._processes - 1 + self._tally.worker_kills

    def _look_for_what_is_left(self, process: Process) -> None:
        # It may have ended before it came to sweep away what one that was killed had left.
        left = self._traces.spooled(time.time() - process.age_s)
        self._left_behind += [f"{name} after process {process.number}" for name in left]

    def _note(self, what: str) -> None:
        """For whoever looks into a directory that was kept."""
        with (self._directory / "story.txt").open("a") as file:
            file.write(f"{time.time():.3f} process {self._processes}: {what}\n")
