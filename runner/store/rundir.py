"""The run directory: where its files are, how it begins, and how it is repaired or renamed."""

from __future__ import annotations

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
from runner.store.run_lock import RunLock

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
        self._lock = RunLock(path)

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
        return self._lock.is_held

    @property
    def lock_fd(self) -> int:
        """The file descriptor of the lock, for workers that share it: it is held until the last one exits."""
        return self._lock.fd

    def lock(self) -> None:
        """Create the directory if it is missing, and take its lock.

        Raises `RunDirError` while another process holds it, `StorageError` where the disk is at fault.
        """
        self._lock.take()

    def unlock(self) -> None:
        """Release the lock; harmless to repeat."""
        self._lock.release()

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


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
