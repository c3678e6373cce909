"""Batch mode over real sockets at the lowest cost: a simulator on a thread, and the command in this process.

Whatever needs signals or a kill runs the command as a process of its own; see `tests.processes.Shell`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeAlias

import pytest
import uvloop

from runner.cli import main
from runner.commands.signals import SIGNALS
from runner.config import Simulator
from runner.simulator import serve as serve_simulator
from tests.processes import KEY, Shell

AT_ONCE: Final = {"type": "constant", "mean_s": 0.0}
Line: TypeAlias = dict[str, Any]
"""A line of a file of a run, or an object of the service: its values are whatever JSON holds."""


class Service:
    """A simulator on a thread of this process, with an event loop of its own and real sockets."""

    def __init__(self, settings: Simulator, state: Path | None = None, port: int = 0) -> None:
        ready: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def work() -> None:
            loop, stop = asyncio.get_running_loop(), asyncio.Event()

            def listening(base_url: str) -> None:
                ready.set_result((base_url, loop, stop))

            await serve_simulator(settings, "127.0.0.1", port, state, on_ready=listening, stop=stop)

        def run() -> None:
            try:
                uvloop.run(work())
            except BaseException as error:  # raised again by whoever waits for the service
                if not ready.done():
                    ready.set_exception(error)
                raise

        self._thread = Thread(target=run, name="simulator")
        self._thread.start()
        self.base_url, self._loop, self._stop = ready.result()

    @property
    def port(self) -> int:
        return int(self.base_url.rsplit(":", 1)[1].split("/")[0])

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(self.base_url.removesuffix("/v1") + path)
        request.add_header("Authorization", f"Bearer {KEY}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def stats(self) -> Line:
        stats: Line = json.loads(self.get("/simulator/stats"))
        return stats

    def jobs(self) -> list[Line]:
        return [json.loads(line) for line in self.get("/simulator/jobs").splitlines()]

    def batches(self) -> list[Line]:
        """Return all batches as the service lists them, the oldest first."""
        newest_first: list[Line] = json.loads(self.get("/v1/batches?limit=200"))
        return newest_first[::-1]


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its exit code, and what it said and left."""

    exit_code: int
    errors: str
    results: list[Line]
    journal: list[Line]
    summary: Line

    @property
    def statuses(self) -> dict[str, int]:
        """The number of rows by status; checks that no row has two lines."""
        rows = [line["row"] for line in self.results]
        assert len(set(rows)) == len(rows)
        return dict(Counter(line["status"] for line in self.results))

    def ended(self, status: str) -> list[Line]:
        return [line for line in self.results if line["status"] == status]

    def rows(self, status: str) -> set[int]:
        return {line["row"] for line in self.ended(status)}

    def entries(self, event: str) -> list[Line]:
        return [entry for entry in self.journal if entry["event"] == event]


@contextmanager
def undoing_setup() -> Iterator[None]:
    """Undo at the end what a run does to its process: signal handlers, and settings of garbage collection."""
    thresholds = gc.get_threshold()
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    for signum, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(signum, handler)


class Runs:
    """Writes configs in batch mode, and runs them in this process, in a directory of their own.

    `go(go.config(service, rows=…, batch={…}), "--retry", …)` is one session.
    """

    def __init__(self, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
        self._shell = shell
        self._capsys = capsys
        self.dir = shell.cwd / "runs/t"

    def config(self, base_url: str, rows: int = 40, **sections: Mapping[str, object]) -> Path:
        """Write a config for that many rows, whose retries and polls come soon; sections are merged."""
        defaults: dict[str, Mapping[str, object]] = {
            "target": {"base_url": base_url, "mode": "batch"},
            "source": {"count": rows, "prompt": "Row {{ i }}"},
            "submit": {"retry": {"base_s": 0.01, "cap_s": 0.05, "max_attempts": 30}},
            "poll": {"concurrency": 8, "interval_s": 0.02, "max_interval_s": 0.1},
            "batch": {"max_requests": 10},
            "limits": {"max_outage_s": 6},
        }
        names = {**defaults, **sections}
        merged = {name: {**defaults.get(name, {}), **sections.get(name, {})} for name in names}
        return self._shell.config(**merged)

    def lines(self, rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
        """Write these rows to a file, and return the source section of a config that reads it."""
        (self._shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"type": "jsonl", "path": "rows.jsonl", "count": None, "prompt": None}

    def __call__(self, config: Path, *arguments: str) -> Finished:
        self._capsys.readouterr()
        exit_code = main(["run", str(config), *arguments])
        errors = self._capsys.readouterr().err
        assert "Traceback" not in errors, errors
        assert not list(self.dir.glob(".batch-*")), "a body of a batch is left behind"
        return self.finished(exit_code, errors)

    def finished(self, exit_code: int, errors: str) -> Finished:
        """Return the run as its files show it now."""
        summary = self.dir / "summary.json"
        return Finished(
            exit_code=exit_code,
            errors=errors,
            results=self.read("results.jsonl"),
            journal=self.read("journal.jsonl"),
            summary=json.loads(summary.read_bytes()) if summary.exists() else {},
        )

    def read(self, name: str) -> list[Line]:
        path = self.dir / name
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
