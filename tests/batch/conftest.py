"""Runs in batch mode: real sockets, a service on a thread of this process, and the run in its main thread.

That is the cheapest way that is still real. What needs signals, or a kill, runs as processes: `runner`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvloop

from runner.cli import main
from runner.commands.signals import SIGNALS
from runner.config import Simulator
from runner.simulator import serve as serve_simulator
from tests.batch.stub import serving

KEY = "sk-test-3f9a1c7e5b"
FAST = {"type": "constant", "mean_s": 0.0}


class Service:
    """A simulator on a thread of this process; it has its own event loop, and real sockets."""

    def __init__(self, settings: Simulator, state: Path | None = None, port: int = 0) -> None:
        ready: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def work() -> None:
            loop, stop = asyncio.get_running_loop(), asyncio.Event()

            def tell(base_url: str) -> None:
                ready.set_result((base_url, loop, stop))

            await serve_simulator(settings, "127.0.0.1", port, state, on_ready=tell, stop=stop)

        def run() -> None:
            try:
                uvloop.run(work())
            except BaseException as error:  # whoever waits for the service must hear of it
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

    def stats(self) -> Any:
        return json.loads(self.get("/simulator/stats"))

    def jobs(self) -> list[Any]:
        return [json.loads(line) for line in self.get("/simulator/jobs").splitlines()]

    def batches(self) -> list[Any]:
        """The oldest first."""
        found: list[Any] = json.loads(self.get("/v1/batches?limit=200"))
        return found[::-1]


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """`serve(latency=…, faults=…)` starts a simulator with these settings; all are stopped at the end."""
    with ExitStack() as stack:

        def start(state: Path | None = None, port: int = 0, **settings: Any) -> Service:
            settings.setdefault("latency", FAST)
            service = Service(Simulator.model_validate(settings), state, port)
            stack.callback(service.stop)
            return service

        yield start


@dataclass
class Told:
    """What a run said and left."""

    exit_code: int
    errors: str
    results: list[Any]
    journal: list[Any]
    summary: Any

    @property
    def statuses(self) -> dict[str, int]:
        """How many rows ended how; each row has one line at most."""
        rows = [line["row"] for line in self.results]
        assert len(set(rows)) == len(rows)
        return dict(Counter(line["status"] for line in self.results))

    def ended(self, status: str) -> list[Any]:
        return [line for line in self.results if line["status"] == status]

    def rows(self, status: str) -> set[int]:
        return {line["row"] for line in self.ended(status)}

    def entries(self, event: str) -> list[Any]:
        return [entry for entry in self.journal if entry["event"] == event]


@pytest.fixture
def this_process() -> Iterator[None]:
    """A run takes the signals for as long as it lasts, and sets the garbage collector up for good."""
    thresholds = gc.get_threshold()
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    for signum, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(signum, handler)


class Runs:
    """Writes configs in batch mode, and runs them in this process, in a directory of their own."""

    def __init__(self, shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self._runner = shell
        self._capsys = capsys
        self.dir = shell.cwd / "runs/t"

    def config(self, service: Any, rows: int = 40, **sections: Any) -> Path:
        """Of `rows` rows at a service, or an address; retries and looks come soon."""
        base_url = service if isinstance(service, str) else service.base_url
        target = {"base_url": base_url, "mode": "batch", **sections.pop("target", {})}
        defaults: dict[str, dict[str, Any]] = {
            "source": {"count": rows, "prompt": "Row {{ i }}"},
            "submit": {"retry": {"base_s": 0.01, "cap_s": 0.05, "max_attempts": 30}},
            "poll": {"concurrency": 8, "interval_s": 0.02, "max_interval_s": 0.1},
            "batch": {"max_requests": 10},
            "limits": {"max_outage_s": 6},
        }
        for name, section in defaults.items():
            sections[name] = {**section, **sections.get(name, {})}
        path: Path = self._runner.config(target=target, **sections)
        return path

    def lines(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The source section of a config whose input is these lines."""
        content = "".join(json.dumps(row) + "\n" for row in rows)
        (self._runner.cwd / "rows.jsonl").write_text(content)
        return {"type": "jsonl", "path": "rows.jsonl", "count": None, "prompt": None}

    def __call__(self, config: Path, *arguments: str) -> Told:
        self._capsys.readouterr()
        exit_code = main(["run", str(config), *arguments])
        errors = self._capsys.readouterr().err
        assert "Traceback" not in errors, errors
        assert not list(self.dir.glob(".batch-*")), "no body of a batch is left behind"
        return self.told(exit_code, errors)

    def told(self, exit_code: int, errors: str) -> Told:
        """Of the run as its files tell it now."""
        summary = self.dir / "summary.json"
        return Told(
            exit_code=exit_code,
            errors=errors,
            results=self.read("results.jsonl"),
            journal=self.read("journal.jsonl"),
            summary=json.loads(summary.read_bytes()) if summary.exists() else None,
        )

    def read(self, name: str) -> list[Any]:
        path = self.dir / name
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    @contextmanager
    def rewriting(self, name: str) -> Iterator[list[Any]]:
        """The lines of a file of the run, to be changed in place."""
        lines = self.read(name)
        yield lines
        content = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        (self.dir / name).write_text(content)


@pytest.fixture
def go(
    shell: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, this_process: None
) -> Runs:
    """`go(go.config(service, rows=…, batch={…}), "--retry", …)`: one session in this process."""
    monkeypatch.chdir(shell.cwd)
    monkeypatch.setenv("SAIL_API_KEY", KEY)
    no_certificates = shell.cwd / "certificates"  # nobody needs one, and reading the real ones takes 40 ms
    no_certificates.mkdir()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(no_certificates))
    return Runs(shell, capsys)


@pytest.fixture
def stub_batches() -> Any:
    """`with stub_batches() as stub`: see there."""
    return serving
