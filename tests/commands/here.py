"""Commands run in this process, before a service in memory: no sockets, no other process, hardly any time."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.commands.cancel import cancel
from runner.commands.list_batches import list_batches
from runner.commands.result import CommandResult
from runner.commands.run import Options, run
from runner.commands.signals import Signals
from runner.config import RunConfig
from runner.store import RunDir
from runner.transport.fake import Behaviour, Fake, Script

KEY = "sk-test-3f9a1c7e5b"


@dataclass
class Here:
    """A directory to run commands in; `fake` is the service that they find."""

    path: Path
    monkeypatch: pytest.MonkeyPatch
    fake: Fake = field(init=False)

    def __post_init__(self) -> None:
        self.serve()
        self.monkeypatch.chdir(self.path)
        self.monkeypatch.setenv("SAIL_API_KEY", KEY)
        for command in ("run", "cancel", "list_batches"):
            self.monkeypatch.setattr(f"runner.commands.{command}.open_transport", lambda *_: self.fake)

    def serve(self, script: Script | None = None, **behaviour: Any) -> None:
        """Replace the service by a new one, whose jobs take no time unless `behaviour` says otherwise."""
        self.fake = Fake(Behaviour(**{"takes_s": 0.0, **behaviour}), script)

    @property
    def run_dir(self) -> RunDir:
        return RunDir(self.path / "runs/t")

    def config(self, **sections: Any) -> RunConfig:
        """Return a config of 10 rows, of quick polls, and of what is given."""
        defaults: dict[str, Any] = {
            "name": "t",
            "target": {"base_url": "http://service/v1"},
            "request": {"model": "m"},
            "source": {"count": 10},
            "submit": {"retry": {"base_s": 0.01, "cap_s": 0.02}},
            "poll": {"interval_s": 0.01, "max_interval_s": 0.02},
        }
        merged = {**defaults, **sections}
        for name, section in sections.items():
            if isinstance(section, dict):
                both = {**defaults.get(name, {}), **section}
                # None takes a default of this helper out again.
                merged[name] = {
                    key: value
                    for key, value in both.items()
                    if value is not None or key == "idempotency_header"
                }
        return RunConfig.model_validate(merged)

    def run(self, config: RunConfig | None = None, **options: Any) -> CommandResult:
        with Signals() as signals:
            return run(config or self.config(), Options(**options), signals)

    def run_until(
        self, condition: Callable[[], bool], config: RunConfig | None = None, signum: int = signal.SIGINT
    ) -> CommandResult:
        """Run until a condition holds, then get a signal; nothing is waited for but open exchanges."""
        config = config or self.config(limits={"drain_s": 0})
        with interrupted_when(condition, signum):
            return self.run(config)

    def leave_open(self, jobs: int, **behaviour: Any) -> None:
        """Run until that many jobs are accepted, none of which ends, and stop."""
        self.serve(takes_s=math.inf, **behaviour)
        config = self.config(source={"count": jobs}, limits={"drain_s": 0})
        self.run_until(lambda: len(self.fake.jobs_made) == jobs, config)
        assert self.summary()["requests"]["open"] == jobs

    def cancel(self, timeout_s: float = 60.0) -> CommandResult:
        with Signals() as signals:
            return cancel(self.run_dir.path, timeout_s, signals)

    def list_batches(
        self, config: RunConfig | None = None, most: int = 25, *, with_status: bool = False
    ) -> CommandResult:
        with Signals() as signals:
            return list_batches(config or self.config(), most, signals, with_status=with_status)

    def statuses(self) -> Counter[str]:
        """Return the number of rows by status; no row may have two lines."""
        results = self.results()
        assert len({line["row"] for line in results}) == len(results)
        return Counter(line["status"] for line in results)

    def results(self) -> list[Any]:
        content = b"".join(path.read_bytes() for path in self.run_dir.all_results if path.exists())
        return [json.loads(line) for line in content.splitlines()]

    def summary(self) -> Any:
        return json.loads(self.run_dir.summary.read_bytes())


@contextmanager
def interrupted_when(condition: Callable[[], bool], signum: int = signal.SIGINT) -> Iterator[None]:
    """Send this process a signal as soon as a condition holds, while the context lasts."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.002):
            if condition():
                os.kill(os.getpid(), signum)
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        is_over.set()
        watching.join()
