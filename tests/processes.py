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
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from tests.forking import Forge, Forked

ROOT: Final = Path(__file__).resolve().parents[1]
KEY: Final = "sk-test-3f9a1c7e5b"
PATIENCE_S: Final = 100

Process = subprocess.Popen[str] | Forked


def constant(mean_s: float) -> dict[str, object]:
    """Return the latency of a simulator whose jobs all take equally long."""
    return {"type": "constant", "mean_s": mean_s}


NEVER: Final = constant(3600)
"""Latency of jobs that do not end during a test."""
SPREAD: Final[dict[str, object]] = {"type": "lognormal", "mean_s": 0.4, "sigma": 0.5}
"""Latency of jobs that end one by one within a second or two."""


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


class Simulate(Protocol):
    """Starts a simulator; the fixture `simulate` stops it at the end of the test."""

    def __call__(self, state: Path | None = None, port: int = 0, **settings: object) -> Simulator: ...


@dataclass
class Shell:
    """The command, run in a directory of its own with a key in the environment."""

    cwd: Path
    forge: Forge
    environ: dict[str, str] = field(default_factory=dict)
    is_fresh: bool = "FRESH" in os.environ
    """Whether each command is a new interpreter, and not forked from one that has imported everything."""
    started: list[Process] = field(default_factory=list)

    def close(self) -> None:
        """Kill what a failed test left running."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            with suppress(ValueError):  # its streams are closed already
                process.communicate(timeout=10)

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
            before = config.get(name)
            if isinstance(before, dict) and isinstance(section, dict):
                merged = {**before, **section}
                # None takes a default of this helper out again.
                config[name] = {
                    key: value
                    for key, value in merged.items()
                    if value is not None or key == "idempotency_header"
                }
            else:
                config[name] = section
        path = self.cwd / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def shared_config(self, simulator: Simulator, workers: int = 2, **sections: Any) -> Path:
        """Write a config for 600 rows that several workers share, with few slots."""
        defaults: dict[str, Any] = {
            "target": {"base_url": simulator.base_url},
            "source": {"count": 600},
            "submit": {"max_in_flight": 100},
            "engine": {"workers": workers},
        }
        return self.config(**{**defaults, **sections})

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "runner", *map(str, arguments)]

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "SAIL_API_KEY": KEY, "PYTHONPATH": str(ROOT), **self.environ}

    def customise(self, code: str) -> None:
        """Let the interpreter of each further command run `code` when it starts."""
        site = self.cwd.with_name(f"{self.cwd.name}-site")
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(code)
        self.environ["PYTHONPATH"] = f"{site}:{ROOT}"

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments)
        done = self.end(process, PATIENCE_S)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, *arguments: str | Path) -> Process:
        """Start a command; whoever does so waits for its end."""
        process: Process
        if not self.is_fresh and not any(name.startswith("PYTHON") for name in self.environ):
            process = self.forge.start([*map(str, arguments)], self.cwd, self.env)
        else:
            process = subprocess.Popen(
                self.command(*arguments),
                cwd=self.cwd,
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                text=True,
            )
        self.started.append(process)
        return process

    def end(self, process: Process, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Wait for the end of a process, and return what it said since it was last read."""
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.wait(), stdout, stderr)

    def run_until(
        self, condition: Callable[[], bool], *arguments: str | Path, signum: int = signal.SIGKILL
    ) -> subprocess.CompletedProcess[str]:
        """Run a command until a condition holds, then send a signal, and return how it ended."""
        process = self.start(*arguments)
        self.wait_for(process, condition)
        process.send_signal(signum)
        return self.end(process)

    def stop_after(self, least: int, *arguments: str | Path, signum: int = signal.SIGKILL) -> int:
        """Run until that many results are written, then send a signal, and return the exit code."""
        return self.run_until(self.has_results(least), *arguments, signum=signum).returncode

    def workers_of(self, process: Process) -> list[int]:
        """Return the ids of its worker processes, the oldest first."""
        command = ["pgrep", "-P", str(process.pid), "-f", "commands.worker"]
        found = subprocess.run(command, capture_output=True, text=True)
        return sorted(map(int, found.stdout.split()))

    def wait_for(self, process: Process, condition: Callable[[], bool]) -> None:
        """Return once `condition()` holds; the process must not end before."""
        while not condition():
            assert process.poll() is None, process.communicate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)

    def wait_for_line(self, text: str, process: Process) -> None:
        """Return once the process has written a line with `text` to stderr."""
        assert process.stderr is not None
        line = ""
        while text not in line:
            line = process.stderr.readline()
            assert line, f"it ended without saying {text!r}"

    def has_results(self, least: int, name: str = "t") -> Callable[[], bool]:
        """Return a condition: that many lines are written."""
        return lambda: self._content("results", name).count(b"\n") >= least

    def has_accepted(self, count: int, name: str = "t") -> Callable[[], bool]:
        """Return a condition: that many acceptances are on record."""
        return lambda: self.entries("accepted", name) >= count

    def entries(self, event: str, name: str = "t") -> int:
        """Return how many entries of a kind all journals of a run have."""
        return self._content("journal", name).count(b'"event":"%b"' % event.encode())

    def results(self, name: str = "t") -> list[Any]:
        return [json.loads(line) for line in self._content("results", name).splitlines()]

    def statuses(self, name: str = "t") -> Counter[str]:
        """Return the number of rows by status; no row may have two lines."""
        results = self.results(name)
        assert len({line["row"] for line in results}) == len(results), "one line a row"
        return Counter(line["status"] for line in results)

    def assert_each_row_once(self, count: int, name: str = "t") -> None:
        """Every row has one line, and completed."""
        results = self.results(name)
        assert Counter(line["row"] for line in results) == dict.fromkeys(range(count), 1)
        assert {line["status"] for line in results} == {"completed"}

    def summary(self, name: str = "t") -> Any:
        return json.loads((self.cwd / "runs" / name / "summary.json").read_text())

    def _content(self, log: str, name: str) -> bytes:
        """Return what the files of all workers hold."""
        paths = sorted((self.cwd / "runs" / name).glob(f"{log}*.jsonl"))
        return b"".join(path.read_bytes() for path in paths)
