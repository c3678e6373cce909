from __future__ import annotations

import gc
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.commands.signals import SIGNALS
from tests.commands.here import Here


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """Run commands in this process, and undo what a command does to its process for good."""
    thresholds, files = gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE)
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    yield Here(tmp_path, monkeypatch)
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    assert [signal.getsignal(signum) for signum in SIGNALS] == handlers
