"""The lock of a run directory: only one process at a time works on a run."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from runner.errors import Problem, RunDirError, StorageError

RETRY_S: Final = 0.02
REPORT_LOCK_S: Final = 0.05
"""How long to wait for the lock: `is_held`, which a report asks, takes it for a moment."""
WORKERS_EXIT_S: Final = 10.0
"""How long to wait after the coordinator was killed: its workers share the lock and exit soon after it."""
_SYSTEM_FAULTS: Final = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip


class RunLock:
    """An OS lock on the file `.lock` of a directory. It ends with the last process that has it open."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / ".lock"
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether any process holds the lock now."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    @property
    def fd(self) -> int:
        """The file descriptor of the lock, for workers that share it. Raises `RunDirError` if not held."""
        if self._fd is None:
            raise RunDirError(Problem("is not held by this process", str(self._directory)))
        return self._fd

    def take(self) -> None:
        """Create the directory if it is missing, and take the lock.

        Raises `RunDirError` while another process holds it, `StorageError` where the disk is at fault.
        """
        fd = self._open()
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        if not _try_lock(fd, WORKERS_EXIT_S if _is_gone(holder) else REPORT_LOCK_S):
            os.close(fd)
            what = f"another process (pid {holder}) is running this run"
            raise RunDirError(Problem(what, str(self._directory), "wait for it, or stop it"))
        if not self._path.exists() or os.fstat(fd).st_ino != self._path.stat().st_ino:
            os.close(fd)  # the directory was renamed meanwhile: this is the old one's lock
            self.take()
            return
        with suppress(OSError):  # the pid is only for messages: the lock is what counts
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Release the lock; harmless to repeat."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            what = f"the run directory cannot be created: {error.strerror}"
            cls = StorageError if error.errno in _SYSTEM_FAULTS else RunDirError
            raise cls(Problem(what, str(self._directory), "check sink.dir")) from None


def _try_lock(fd: int, timeout_s: float) -> bool:
    """Take the lock as soon as it is free, and return whether that was within `timeout_s`."""
    until_mono = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= until_mono:
                return False
            time.sleep(RETRY_S)
        else:
            return True


def _is_gone(pid: str) -> bool:
    """Return whether that process has exited."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OverflowError, PermissionError):
        pass
    return False
