"""A disk that is full for some files, for as long as a test likes."""

from __future__ import annotations

import errno
import os

import pytest

from runner.store import AppendLog


class Disk:
    """Decides which files have no room left; it stands before every file that grows by lines."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full: set[str] = set()
        """Names of files that cannot be written now."""
        write = AppendLog._write

        def brittle(log: AppendLog, lines: bytes) -> None:
            if log.path.name in self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(log, lines)

        patch.setattr(AppendLog, "_write", brittle)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return the disk of one test, which has room at first."""
    return Disk(monkeypatch)
