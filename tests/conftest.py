"""Real processes for the tests: the command `runner`, and a simulator beside it."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import hypothesis
import pytest

from tests.forking import Forge
from tests.processes import Shell, Simulator, StubHandler

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    forge = Forge()
    yield forge
    forge.close()


@pytest.fixture
def simulate(forge: Forge) -> Iterator[Callable[..., Simulator]]:
    """`simulate(latency=…, state=…)` starts one with these settings; all are stopped at the end."""
    started: list[Simulator] = []

    def start(state: Path | None = None, port: int = 0, **settings: Any) -> Simulator:
        settings.setdefault("latency", {"type": "constant", "mean_s": 0.05})
        command = ["simulate", "--port", str(port), "--settings-json", json.dumps(settings)]
        command += ["--state", str(state)] if state else []
        process = forge.start(command, Path.cwd(), os.environ, with_stderr=False)
        line = process.stdout.readline()
        assert line.startswith("simulator listening on "), line
        simulator = Simulator(process, line.split()[-1])
        started.append(simulator)
        return simulator

    yield start
    for simulator in started:
        simulator.stop()


@pytest.fixture
def stub() -> Callable[..., Any]:
    """`with stub(cancel=…, status=…, submit=…, look=…) as (base_url, server)`: a service in a few lines."""

    @contextmanager
    def serve(
        cancel: Any = None,
        status: Callable[[str], str] = lambda job: "in_progress",
        submit: Callable[[StubHandler], None] = StubHandler.accept,
        look: Callable[[StubHandler, str], None] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        with ThreadingHTTPServer(("127.0.0.1", 0), StubHandler) as threads:
            server: Any = threads
            server.daemon_threads = True
            server.asked = server.accepted = server.posts = 0
            server.cancel, server.submit = cancel, submit
            server.look = look or (lambda handler, job: handler.end(job, status(job)))
            Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/v1", server
            finally:
                server.shutdown()

    return serve


@pytest.fixture
def shell(tmp_path: Path, forge: Forge) -> Shell:
    return Shell(tmp_path, forge)
