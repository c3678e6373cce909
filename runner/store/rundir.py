"""The run directory: who may use it, and where its files are."""

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
from runner.store.manifest import AFRESH, FORMAT, Manifest

LOCK_RETRY_S: Final = 0.02
REPORT_LOOKS_S: Final = 0.05
"""A report looks whether the lock is held by taking it for a moment."""
WORKERS_END_S: Final = 10.0
"""Workers share the lock; those of a main process that was killed end soon after it."""
_NO_FAULT_OF_THE_CONFIG: Final = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip


SPOOL: Final = ".batch-"
"""Begins the names of files with bodies of batches; a kill leaves them."""


class Files(NamedTuple):
    """What one worker process of a run writes to, and no other."""

    journal: Path
    results: Path
    reserve: Path

    def spool(self, number: int) -> Path:
        """For the body of batch number `number`, until the service has it."""
        return self.journal.with_name(f"{SPOOL}{number}")


class RunDir:
    """One run's directory, held by this process alone for as long as it is open."""

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
        """Whether a run lives here: it has a manifest, or, where that was lost, something that was sent."""
        try:
            logs = (*self.all_results, *self.journals)
            written = (path.stat().st_size > 0 for path in logs if path.exists())
            return self.manifest.exists() or any(written)
        except OSError:
            return False  # `lock` will say why

    def files(self, worker: int | None = None) -> Files:
        """Those of worker number `worker`, or of a run that is one process."""
        if worker is None:
            return Files(self.journal, self.results, self.reserve)
        return Files(
            self.path / f"journal-{worker}.jsonl",
            self.path / f"results-{worker}.jsonl",
            self.path / f".reserve-{worker}",
        )

    @property
    def journals(self) -> tuple[Path, ...]:
        """Those of all workers that the run ever had; sessions may have had more or fewer."""
        return self._with_those_of_workers(self.journal)

    @property
    def all_results(self) -> tuple[Path, ...]:
        """As `journals`; a row has one line in one of them."""
        return self._with_those_of_workers(self.results)

    @property
    def logs(self) -> tuple[Path, ...]:
        """The files that grow by lines: a kill may leave a torn one at the end."""
        return *self.all_results, *self.journals, self.superseded, self.metrics

    def repair(self) -> dict[str, int]:
        """Cut torn last lines, remove what else a kill leaves; the bytes cut, by the name of the file.

        Raises `StorageError`.
        """
        self._sweep()
        cut = {path.name: cut_torn_tail(path) for path in self.logs}
        return {name: count for name, count in cut.items() if count}

    @property
    def is_held(self) -> bool:
        """Whether a process is working on this run now."""
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
        """Make the directory if need be, and hold it. Raises `RunDirError` while another process does."""
        path = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            what = f"the run directory cannot be made: {error.strerror}"
            kind = StorageError if error.errno in _NO_FAULT_OF_THE_CONFIG else RunDirError
            raise kind(Problem(what, str(self.path), "see sink.dir")) from None
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        if not _try_lock(fd, WORKERS_END_S if _is_gone(holder) else REPORT_LOOKS_S):
            os.close(fd)
            raise RunDirError(Problem(f"another process (pid {holder}) is running this run", str(self.path)))
        if not path.exists() or os.fstat(fd).st_ino != path.stat().st_ino:
            os.close(fd)  # the directory was set aside between opening and locking: this is the old one's
            self.lock()
            return
        with suppress(OSError):  # who holds it is only said; that it is held is what counts
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    @property
    def lock_fd(self) -> int:
        """The lock, for a process that shares it: it is held until the last one has ended."""
        if self._lock is None:
            raise RunDirError(Problem("is not held by this process", str(self.path)))
        return self._lock

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def create(self, config: RunConfig, survey: Survey, key: str) -> Manifest:
        """Write the config and, last, the manifest: from then on this is a run. Raises `StorageError`."""
        manifest = Manifest.of(config, survey, key)
        resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        replace_atomically(self.config, resolved.encode())
        replace_atomically(self.manifest, _pretty(manifest))
        return manifest

    def read_manifest(self) -> Manifest:
        """Raises `RunDirError` where it is damaged, or of another version of the format."""
        try:
            manifest = msgspec.json.decode(self.manifest.read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RunDirError(
                Problem(f"is not the manifest of a run: {error}", str(self.manifest), AFRESH)
            ) from None
        if manifest.format != FORMAT:
            raise RunDirError(
                Problem(f"is of format {manifest.format}, not {FORMAT}", str(self.manifest), AFRESH)
            )
        return manifest

    def set_aside(self) -> Path:
        """Rename the directory of an earlier run to the first free `<name>.<n>`, and say which that was."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        self._sweep()
        try:
            self.path.rename(aside)
            sync_directory(aside.parent)
        except OSError as error:
            raise StorageError(Problem(f"cannot be set aside: {error.strerror}", str(self.path))) from None
        self.unlock()
        self.lock()
        return aside

    def _with_those_of_workers(self, path: Path) -> tuple[Path, ...]:
        found = self.path.glob(f"{path.stem}-*.jsonl")
        numbers = sorted(int(name) for other in found if (name := other.stem.rpartition("-")[2]).isdecimal())
        return path, *(path.with_name(f"{path.stem}-{number}.jsonl") for number in numbers)

    def _sweep(self) -> None:
        kinds = (f"{self.reserve.name}*", f"{SPOOL}*", ".*.tmp")
        for left in (path for kind in kinds for path in self.path.glob(kind)):
            with suppress(OSError):
                left.unlink()


def _try_lock(fd: int, patience_s: float) -> bool:
    """Take the lock, as soon as it is free."""
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= until:
                return False
            time.sleep(LOCK_RETRY_S)
        else:
            return True


def _is_gone(pid: str) -> bool:
    """Whether that process has ended."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OverflowError, PermissionError):
        pass
    return False


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
