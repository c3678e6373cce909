"""The service of a trial: a simulator in a process of its own, which can be killed, or the embedded one."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from scripts.lib.chaos.checks import ServiceJob

# Below the ports that the kernel gives to clients: one of these could connect to its own port while the
# service is away, and the port would be taken.
PORTS = range(15_000, 32_000)
TRIES = 20
ANSWER_S = 30.0


class Service:
    """`launch`, `ready`, `kill`, and so on, with one port and one memory; `close` at the end."""

    def __init__(self, settings: dict[str, Any], state: Path, env: dict[str, str]) -> None:
        self._settings = settings
        self.state = state
        self._env = env
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def open(self) -> None:
        """Start it on any free port."""
        for _ in range(TRIES):
            self._port = random.choice(PORTS)
            self.launch()
            if self._listens():
                return
            self.close()
        raise RuntimeError("the simulator does not start")

    def launch(self) -> None:
        """Start the process; it need not listen yet when this returns."""
        command = [sys.executable, "-m", "runner", "simulate", "--port", str(self._port)]
        command += ["--settings-json", json.dumps(self._settings), "--state", str(self.state)]
        command += ["--parent-pipe"]  # it never outlives this process
        self._is_ready = False
        self._process = subprocess.Popen(
            command, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self.state.parent
        )

    def ready(self) -> None:
        """Return once it listens."""
        if not self._listens():
            raise RuntimeError(f"the simulator does not start again on port {self._port}")

    def kill(self) -> None:
        """As `kill -9` does."""
        self._end(kill=True)

    def close(self) -> None:
        self._end(kill=False)

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self._get("/simulator/stats"))
        return stats

    def jobs(self) -> list[ServiceJob]:
        """What `/simulator/jobs` says, with the prompts that the state file remembers."""
        prompts = {job.id: job.prompt for job in remembered(self.state)}
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

    def _listens(self) -> bool:
        assert self._process
        assert self._process.stdout
        if not self._is_ready:
            self._is_ready = self._process.stdout.readline().startswith(b"simulator listening on ")
        return self._is_ready

    def _get(self, path: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
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


def remembered(state: Path) -> list[ServiceJob]:
    """The jobs of a state file. The simulator that wrote it has ended, or will: each of them is executed."""
    lines = state.read_bytes().splitlines(keepends=True) if state.exists() else []
    jobs: list[ServiceJob] = []
    unfinished: dict[str, list[ServiceJob]] = {}
    for event in (json.loads(line) for line in lines if line.endswith(b"\n")):
        if event["event"] == "accepted":
            batch = event.get("batch")
            into = jobs if batch is None else unfinished.setdefault(batch, [])
            into.append(ServiceJob(event["id"], event["prompt"], executed=1, is_finished=True))
        elif event["event"] == "batch":
            # Before them may be those of a creation that was cut short: they are no jobs.
            jobs += unfinished.pop(event["id"])[-event["count"] :]
    return jobs
