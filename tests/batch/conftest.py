"""Fixtures for runs in batch mode over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runner.config import Simulator
from tests.batch.in_process import AT_ONCE, Runs, Service, undoing_setup
from tests.processes import KEY, Shell


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Return what starts a simulator: `serve(latency=…, faults=…)`; all are stopped at the end."""
    with ExitStack() as stack:

        def start(state: Path | None = None, port: int = 0, **settings: Any) -> Service:
            settings.setdefault("latency", AT_ONCE)
            service = Service(Simulator.model_validate(settings), state, port)
            stack.callback(service.stop)
            return service

        yield start


@pytest.fixture
def go(shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Return what runs the command in this process, with a key and without certificates.

    No certificates are needed, and to read the real ones takes 40 ms.
    """
    monkeypatch.chdir(shell.cwd)
    monkeypatch.setenv("SAIL_API_KEY", KEY)
    no_certificates = shell.cwd / "certificates"
    no_certificates.mkdir()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(no_certificates))
    with undoing_setup():
        yield Runs(shell, capsys)
