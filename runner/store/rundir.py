"""The run directory: where its files are, and which process may write them."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from runner.config import RunConfig
from runner.errors import Problem, RunDirError, StorageError
from runner.source import Survey
from runner.store.files import cut_torn_tail, replace_atomically, sync_directory
from runner.store.manifest import FORMAT, START_OVER, Manifest

LOCK_RETRY_S: Final = 0.02
REPORT_LOCK_S: Final = 0.05
"""How long to wait for the lock: `is_held`, which a report asks, takes it for a moment."""
WORKERS_EXIT_S: Final = 10.0
"""How long to wait after the coordinator was killed: its workers share the lock and exit soon after it."""
_SYSTEM_FAULTS: Final = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip

SPOOL: Final = ".batch-"
"""Prefix of the files that hold the bodies of batches; a kill leaves them behind."""


class Files(NamedTuple):
    """The files that one worker process of a run writes, and no other process does."""

    journal: Path
    results: Path
    reserve: Path

    def spool(self, number: int) -> Path:
        """Return the path for the body of batch `number`; the file lasts until the batch is accepted."""
        return self.journal.with_name(f"{SPOOL}{number}")


class RunDir:
    """The directory of one run. `lock` holds it for this process alone, until `unlock`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.manifest = path / "manifest.json"
        self.journal = path / "journal.jsonl"
        self.results = path / "results.jsonl"
        self.superseded = path / "superseded.jsonl"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.simulator = path / "simulator.jsonl"
        self.reserve = path / ".reserve"
        self._lock: int | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a run: a manifest, or, if that was lost, anything in a journal or in results."""
        try:
            logs = (*self.all_results, *self.journals)
            written = (path.stat().st_size > 0 for path in logs if path.exists())
            return self.manifest.exists() or any(written)
        except OSError:
            return False  # `lock` reports the reason

    def check_exists(self) -> None:
        """Raise `RunDirError` unless there is a run."""
        if not self.exists:
            what = "is not a run directory: it has no manifest.json"
            raise RunDirError(Problem(what, str(self.path), "run directories are <sink.dir>/<name>"))

    def files(self, worker: int | None = None) -> Files:
        """Return the files of worker number `worker`, or of a run with only one process."""
        if worker is None:
            return Files(self.journal, self.results, self.reserve)
        return Files(
            self.path / f"journal-{worker}.jsonl",
            self.path / f"results-{worker}.jsonl",
            self.path / f".reserve-{worker}",
        )

    @property
    def journals(self) -> tuple[Path, ...]:
        """The journals of all workers that any session of the run had."""
        return self._of_all_workers(self.journal)

    @property
    def all_results(self) -> tuple[Path, ...]:
        """The results files of all workers that any session had; each row has one line in one of them."""
        return self._of_all_workers(self.results)

    @property
    def logs(self) -> tuple[Path, ...]:
        """The files that grow line by line: a kill may leave a torn line at their ends."""
        return *self.all_results, *self.journals, self.superseded, self.metrics

    def repair(self) -> dict[str, int]:
        """Cut torn last lines, remove temporary files, and return the number of bytes cut, by file name.

        Raises `StorageError`.
        """
        self._sweep()
        cut = {path.name: cut_torn_tail(path) for path in self.logs}
        return {name: count for name, count in cut.items() if count}

    @property
    def is_held(self) -> bool:
        """Whether a process is running this run now."""
        try:
            fd = os.open(self.path / ".lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def lock(self) -> None:
        """Create the directory if it is missing, and take its lock.

        Raises `RunDirError` while another process holds it, `StorageError` where the disk is at fault.
        """
        path = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            what = f"the run directory cannot be created: {error.strerror}"
            cls = StorageError if error.errno in _SYSTEM_FAULTS else RunDirError
            raise cls(Problem(what, str(self.path), "check sink.dir")) from None
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        if not _try_lock(fd, WORKERS_EXIT_S if _is_gone(holder) else REPORT_LOCK_S):
            os.close(fd)
            raise RunDirError(Problem(f"another process (pid {holder}) is running this run", str(self.path)))
        if not path.exists() or os.fstat(fd).st_ino != path.stat().st_ino:
            os.close(fd)  # the directory was renamed meanwhile: this is the old one's lock
            self.lock()
            return
        with suppress(OSError):  # the pid is only for messages: the lock is what counts
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    @property
    def lock_fd(self) -> int:
        """The file descriptor of the lock, for workers that share it: it is held until the last one exits."""
        if self._lock is None:
            raise RunDirError(Problem("is not held by this process", str(self.path)))
        return self._lock

    def unlock(self) -> None:
        """Release the lock; harmless to repeat."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def create(self, config: RunConfig, survey: Survey, key: str) -> Manifest:
        """Write the config and, last, the manifest, which makes it a run. Raises `StorageError`."""
        manifest = Manifest.of(config, survey, key)
        resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        replace_atomically(self.config, resolved.encode())
        replace_atomically(self.manifest, _pretty(manifest))
        return manifest

    def read_manifest(self) -> Manifest:
        """Return the manifest. Raises `RunDirError` where it is damaged, or in another format version."""
        try:
            manifest = msgspec.json.decode(self.manifest.read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RunDirError(
                Problem(f"is not the manifest of a run: {error}", str(self.manifest), START_OVER)
            ) from None
        if manifest.format != FORMAT:
            raise RunDirError(
                Problem(
                    f"has format {manifest.format}; this version reads format {FORMAT}",
                    str(self.manifest),
                    START_OVER,
                )
            )
        return manifest

    def set_aside(self) -> Path:
        """Rename the directory of an earlier run to the first free `<name>.<n>`, and return that path.

        The lock moves to a new, empty directory. Raises `StorageError`, `RunDirError`.
        """
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        self._sweep()
        try:
            self.path.rename(aside)
            sync_directory(aside.parent)
        except OSError as error:
            raise StorageError(
                Problem(f"cannot be renamed to {aside.name}: {error.strerror}", str(self.path))
            ) from None
        self.unlock()
        self.lock()
        return aside

    def _of_all_workers(self, path: Path) -> tuple[Path, ...]:
        found = self.path.glob(f"{path.stem}-*.jsonl")
        numbers = sorted(int(name) for other in found if (name := other.stem.rpartition("-")[2]).isdecimal())
        return path, *(path.with_name(f"{path.stem}-{number}.jsonl") for number in numbers)

    def _sweep(self) -> None:
        """Remove the temporary files of a session that was killed."""
        kinds = (f"{self.reserve.name}*", f"{SPOOL}*", ".*.tmp")
        for left in (path for kind in kinds for path in self.path.glob(kind)):
            with suppress(OSError):
                left.unlink()


def _try_lock(fd: int, timeout_s: float) -> bool:
    """Take the lock as soon as it is free, and return whether that was within `timeout_s`."""
    until_mono = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= until_mono:
                return False
            time.sleep(LOCK_RETRY_S)
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


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
