"""A simulator in a process of its own, which can be killed and started again on the same port."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from scripts.lib.chaos.checks import ServiceJob

# Below the ports that the kernel gives to clients: a client could connect to its own port while the service
# is away, and the port would be taken when the service starts again.
PORTS = range(15_000, 32_000)
ATTEMPTS = 20
ANSWER_TIMEOUT_S = 30.0


class KillableSimulator:
    """A simulator with one port and one state file for all of its processes."""

    def __init__(self, settings: dict[str, Any], state: Path, env: dict[str, str]) -> None:
        self._settings = settings
        self._state = state
        self._env = env
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False

    @property
    def base_url(self) -> str:
        """Address for `target.base_url`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def open(self) -> None:
        """Start the simulator on a free port. Raises RuntimeError if it does not start."""
        for _ in range(ATTEMPTS):
            self._port = random.choice(PORTS)
            self.launch()
            if self._is_listening():
                return
            self.close()
        raise RuntimeError("the simulator does not start")

    def launch(self) -> None:
        """Start the process without waiting until it listens."""
        command = [sys.executable, "-m", "runner", "simulate", "--port", str(self._port)]
        command += ["--settings-json", json.dumps(self._settings), "--state", str(self._state)]
        command += ["--parent-pipe"]  # it ends when this process ends
        self._is_ready = False
        self._process = subprocess.Popen(
            command, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self._state.parent
        )

    def wait_until_ready(self) -> None:
        """Return once the simulator listens. Raises RuntimeError if it does not."""
        if not self._is_listening():
            raise RuntimeError(f"the simulator does not start again on port {self._port}")

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._end(kill=True)

    def close(self) -> None:
        """End the process in order."""
        self._end(kill=False)

    def stats(self) -> dict[str, Any]:
        """Return what `/simulator/stats` says."""
        stats: dict[str, Any] = json.loads(self._get("/simulator/stats"))
        return stats

    def jobs(self) -> list[ServiceJob]:
        """Return the jobs of `/simulator/jobs`, with the prompts from the state file."""
        prompts = {job.id: job.prompt for job in jobs_in_state(self._state)}
        lines = map(json.loads, self._get("/simulator/jobs").splitlines())
        return [
            ServiceJob(
                id=line["id"],
                prompt=prompts[line["id"]],
                executed=line["executed"],
                is_finished=line["status"] not in ("waiting", "running"),
            )
            for line in lines
        ]

    def _is_listening(self) -> bool:
        assert self._process
        assert self._process.stdout
        if not self._is_ready:
            self._is_ready = self._process.stdout.readline().startswith(b"simulator listening on ")
        return self._is_ready

    def _get(self, path: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        for stream in (process.stdin, process.stdout):
            assert stream
            stream.close()
        process.wait()


def jobs_in_state(state: Path) -> list[ServiceJob]:
    """Return the jobs of a state file, each as executed once and finished: their simulator has ended."""
    lines = state.read_bytes().splitlines(keepends=True) if state.exists() else []
    jobs: list[ServiceJob] = []
    by_batch: dict[str, list[ServiceJob]] = {}
    for event in (json.loads(line) for line in lines if line.endswith(b"\n")):
        if event["event"] == "accepted":
            batch = event.get("batch")
            into = jobs if batch is None else by_batch.setdefault(batch, [])
            into.append(ServiceJob(event["id"], event["prompt"], executed=1, is_finished=True))
        elif event["event"] == "batch":
            # Before its own there may be jobs of a creation that was cut short. Those are none.
            jobs += by_batch.pop(event["id"])[-event["count"] :]
    return jobs
