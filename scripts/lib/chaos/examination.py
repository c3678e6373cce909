"""Examines a run that has ended: collects the evidence, and starts the complete run once more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence

from scripts.lib.chaos.checks import Evidence, Violation
from scripts.lib.chaos.killable_simulator import jobs_in_state
from scripts.lib.chaos.stage import Broken, Stage
from scripts.lib.chaos.trial_plan import ServiceKind, TrialPlan


class Examination:
    """Examines what a trial left on its stage."""

    def __init__(self, stage: Stage, plan: TrialPlan) -> None:
        self._stage = stage
        self._plan = plan

    def evidence(self, exit_code: int, deaths: int, left_behind: Sequence[str]) -> Evidence:
        """Collect all that is left of the trial.

        `exit_code` is that of the last process, `deaths` the number of processes that may have left requests
        without an acknowledgement. Raises Broken if `runner report` fails.
        """
        stage, simulator = self._stage, self._stage.simulator
        if simulator:
            simulator.wait_until_ready()
        superseded = stage.run_dir / "superseded.jsonl"
        return Evidence(
            rows=self._plan.rows,
            may_be_uncertain=self._may_be_uncertain,
            most_in_doubt=self._most_in_doubt(deaths),
            exit_code=exit_code,
            results=stage.files.content("results"),
            superseded=superseded.read_bytes() if superseded.exists() else b"",
            journal=stage.files.content("journal"),
            summary=json.loads((stage.run_dir / "summary.json").read_bytes()),
            report=self._report(),
            jobs=simulator.jobs() if simulator else jobs_in_state(stage.files.state),
            stats=simulator.stats() if simulator else None,
            left_behind=left_behind,
        )

    def run_complete_run_again(self, exit_code: int) -> Iterator[Violation]:
        """Start a complete run once more; it must change nothing and end with the same exit code."""
        before = self._stage.files.all_content()
        with self._stage.start() as process:
            self._stage.wait(process)
        if process.returncode != exit_code:
            text = f"the complete run, started again, ended with {process.returncode}: {process.last_output}"
            yield Violation("otherwise wrong", text)
        if self._stage.files.all_content() != before:
            text = "the complete run, started again, sent or wrote something"
            yield Violation("otherwise wrong", text)

    def _report(self) -> dict[str, object]:
        command = [sys.executable, "-m", "runner", "report", str(self._stage.run_dir), "--json"]
        done = subprocess.run(command, env=self._stage.env, capture_output=True, check=False)
        if done.returncode:
            raise Broken(f"runner report ended with {done.returncode}: {done.stderr.decode()[-500:]}")
        report: dict[str, object] = json.loads(done.stdout)
        return report

    @property
    def _may_be_uncertain(self) -> bool:
        """Whether a lost acknowledgement may leave the fate of a row in doubt."""
        batches = self._plan.simulator.get("batches", {"labels": False})
        can_be_found = batches.get("labels", True) and batches.get("listing", True)
        return self._plan.service is ServiceKind.UNKEYED and not can_be_found

    def _most_in_doubt(self, deaths: int) -> int:
        """Return the most requests that dead processes can have left without an acknowledgement."""
        if self._plan.mode == "batch":
            return len(self._plan.rows)
        return int(self._plan.config["submit"]["concurrency"]) * deaths
