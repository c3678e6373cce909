"""Fixtures of the tests of transports: each test that uses `talk` or `ask` runs once per transport."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.transport import Upload
from tests.transport.talking import Ask, Talk

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(scope="session")
def no_certificates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an empty folder: reading real certificates takes 40 ms a client, and no test needs one."""
    return str(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, no_certificates: str) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", no_certificates)
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """Yield a port that is bound, so that nobody can listen there, and on which nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(params=["aiohttp", "openai"])
def talk(request: pytest.FixtureRequest) -> Talk:
    return Talk(request.param)


@pytest.fixture
def upload(tmp_path: Path) -> Callable[[bytes], Upload]:
    """Return a function that writes bytes to a file to be uploaded."""

    def upload(body: bytes) -> Upload:
        path = tmp_path / "batch.json"
        path.write_bytes(body)
        return Upload(path, len(body))

    return upload


@pytest.fixture
def ask(talk: Talk, upload: Callable[[bytes], Upload]) -> Ask:
    return Ask(talk, upload)
