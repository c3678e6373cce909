"""Real processes for the tests: the command `runner`, and a simulator beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from tests.forking import Forge, Forked

ROOT = Path(__file__).resolve().parents[1]
KEY = "sk-test-3f9a1c7e5b"
PATIENCE_S = 100

Process = subprocess.Popen[str] | Forked


@dataclass
class Simulator:
    """A simulator in another process."""

    process: Process
    base_url: str

    def get(self, path: str) -> bytes:
        root = self.base_url.removesuffix("/v1")
        with urllib.request.urlopen(root + path, timeout=10) as answer:
            content: bytes = answer.read()
        return content

    def stats(self) -> Any:
        return json.loads(self.get("/simulator/stats"))

    def jobs(self) -> list[Any]:
        return [json.loads(line) for line in self.get("/simulator/jobs").splitlines()]

    @property
    def port(self) -> int:
        return int(self.base_url.rsplit(":", 1)[1].split("/")[0])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)


@dataclass
class Shell:
    """The command, run in a directory of its own with a key in the environment."""

    cwd: Path
    forge: Forge
    environ: dict[str, str] = field(default_factory=dict)
    is_fresh: bool = "FRESH" in os.environ
    """Whether each command is a new interpreter, and not forked from one that has imported everything."""

    def config(self, **sections: Any) -> Path:
        """Write a config with what is given, a name and a model; small limits where none are given."""
        config: dict[str, Any] = {
            "name": "t",
            "request": {"model": "m"},
            "source": {"count": 50},
            "submit": {"concurrency": 20, "retry": {"base_s": 0.02, "cap_s": 0.2}},
            "poll": {"concurrency": 20, "interval_s": 0.05, "max_interval_s": 0.5},
            "limits": {"max_outage_s": 15},
        }
        for name, section in sections.items():
            old = config.get(name)
            both = isinstance(old, dict) and isinstance(section, dict)
            merged = {**old, **section} if both else section
            # None takes a default of the helper out again.
            config[name] = (
                {k: v for k, v in merged.items() if v is not None or k == "idempotency_header"}
                if both
                else merged
            )
        path = self.cwd / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def shared_config(self, simulator: Simulator, workers: int = 2, **sections: Any) -> Path:
        """Of 600 rows that several workers share, with few places in flight."""
        defaults: dict[str, Any] = {
            "target": {"base_url": simulator.base_url},
            "source": {"count": 600},
            "submit": {"max_in_flight": 100},
            "engine": {"workers": workers},
        }
        return self.config(**{**defaults, **sections})

    def assert_each_row_once(self, count: int) -> None:
        """Every row has one line, and completed."""
        results = self.results()
        assert Counter(line["row"] for line in results) == dict.fromkeys(range(count), 1)
        assert {line["status"] for line in results} == {"completed"}

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "runner", *map(str, arguments)]

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "SAIL_API_KEY": KEY, "PYTHONPATH": str(ROOT), **self.environ}

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert "Traceback" not in stderr, stderr
        return subprocess.CompletedProcess(process.args, process.wait(), stdout, stderr)

    def start(self, *arguments: str | Path) -> Process:
        if not self.is_fresh and not any(name.startswith("PYTHON") for name in self.environ):
            return self.forge.start([*map(str, arguments)], self.cwd, self.env)
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def workers_of(self, process: Process) -> list[int]:
        """The ids of its worker processes, the oldest first."""
        command = ["pgrep", "-P", str(process.pid), "-f", "commands.worker"]
        found = subprocess.run(command, capture_output=True, text=True)
        return sorted(map(int, found.stdout.split()))

    def wait_for(self, process: Process, condition: Callable[[], bool]) -> None:
        """Return once `condition()` holds; the process must not end before."""
        while not condition():
            assert process.poll() is None, process.communicate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)

    def has_results(self, least: int, name: str = "t") -> Callable[[], bool]:
        """A condition: that many lines are written."""
        return lambda: self._content("results", name).count(b"\n") >= least

    def has_accepted(self, count: int, name: str = "t") -> Callable[[], bool]:
        """A condition: that many acceptances are on record, which the service knows of a moment earlier."""
        return lambda: self._content("journal", name).count(b'"event":"accepted"') >= count

    def stop_after(self, least: int, *arguments: str | Path, signum: int = signal.SIGKILL) -> int:
        """Run until that many results are written, then send a signal; the exit code."""
        process = self.start(*arguments)
        self.wait_for(process, self.has_results(least))
        process.send_signal(signum)
        process.communicate(timeout=60)
        return process.returncode

    def results(self, name: str = "t") -> list[Any]:
        return [json.loads(line) for line in self._content("results", name).splitlines()]

    def _content(self, log: str, name: str) -> bytes:
        """Of the files of all workers."""
        paths = sorted((self.cwd / "runs" / name).glob(f"{log}*.jsonl"))
        return b"".join(path.read_bytes() for path in paths)

    def summary(self, name: str = "t") -> Any:
        return json.loads((self.cwd / "runs" / name / "summary.json").read_text())


class StubHandler(BaseHTTPRequestHandler):
    """Jobs are `job-<n>`. What is not given is what a service does for which every job is in progress."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server: Any = self.server
        if self.path.endswith("/cancel"):
            server.asked += 1
            server.cancel(self, self.path.split("/")[-2])
        else:
            server.posts += 1
            server.submit(self)

    def do_GET(self) -> None:
        server: Any = self.server
        server.look(self, self.path.split("/")[-1])

    def accept(self) -> None:
        server: Any = self.server
        server.accepted += 1
        self.say(202, {"id": f"job-{server.accepted}", "status": "queued"})

    def end(self, job: str, status: str = "completed") -> None:
        self.say(200, {"id": job, "status": status, "output": []})

    def say(self, status: int, body: Any) -> None:
        """`body`: bytes as they are, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""
