"""The run directory: who may use it, which run it belongs to, where its files are."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from runner import __version__
from runner.config.sections import RunConfig
from runner.errors import Problem, RunDirError, StorageError
from runner.source import Survey
from runner.store.files import cut_torn_tail, replace_atomically, sync_directory

FORMAT: Final = 1
_NO_FAULT_OF_THE_CONFIG: Final = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip


class Manifest(msgspec.Struct, frozen=True):
    """The identity of a run: `manifest.json`. What is compared before a run is continued."""

    format: int
    run_id: str
    name: str
    created: float
    version: str
    rows: int
    input: str
    """Fingerprint of the input and of the templates."""
    settings: dict[str, str]
    """Fingerprints of what else requests are made of, by the name of the setting."""
    key_salt: str
    key: str
    """HMAC-SHA-256 of the API key under the salt: tells a changed key, tells nothing about it."""


class Files(NamedTuple):
    """What one worker process of a run writes to, and no other."""

    journal: Path
    results: Path
    reserve: Path


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
        if not _try_lock(fd):
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
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
        salt = secrets.token_hex(16)
        manifest = Manifest(
            format=FORMAT,
            run_id=secrets.token_hex(16),
            name=config.name,
            created=time.time(),
            version=__version__,
            rows=survey.rows,
            input=survey.fingerprint,
            settings=_settings(config),
            key_salt=salt,
            key=_salted(key, salt),
        )
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
                Problem(f"is not the manifest of a run: {error}", str(self.manifest), _AFRESH)
            ) from None
        if manifest.format != FORMAT:
            raise RunDirError(
                Problem(f"is of format {manifest.format}, not {FORMAT}", str(self.manifest), _AFRESH)
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
        for left in (*self.path.glob(f"{self.reserve.name}*"), *self.path.glob(".*.tmp")):
            with suppress(OSError):
                left.unlink()


_AFRESH: Final = "start afresh with --new"


def check_unchanged(
    manifest: Manifest, config: RunConfig, fingerprint: str, key: str | None, where: Path
) -> None:
    """Raises `RunDirError` naming what is not as it was when the run began; a `key` of None is not compared.

    Other input or settings would make other requests under the ids and idempotency keys of the old
    ones; another API key has none of the old one's protection against paying twice.
    """
    before, now = _earlier_config(where), config.model_dump(mode="json")
    changed = []
    if manifest.input != fingerprint:
        changed.append("the input (source)" + _differences(before, now, "source"))
    for name, was in _settings(config).items():
        if manifest.settings.get(name) != was:
            changed.append(name + _differences(before, now, name))
    if key is not None and not hmac.compare_digest(manifest.key, _salted(key, manifest.key_salt)):
        changed.append(f"the API key ({config.target.api_key_env})")
    if changed:
        raise RunDirError(
            Problem(
                f"changed since this run began: {', '.join(changed)}",
                str(where),
                f"undo the change to continue, or {_AFRESH}",
            )
        )


def _earlier_config(run_dir: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((run_dir / "config.yaml").read_bytes())
    except (OSError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _differences(before: dict[str, Any], now: dict[str, Any], name: str) -> str:
    """` [request.model: 'a' → 'b']` for a section or a key in one; empty where nothing differs in it."""
    old: Any = before
    new: Any = now
    for key in name.split("."):
        old, new = old.get(key), new.get(key)
    found = list(_differing(old, new, name))
    return f" [{', '.join(found)}]" if found else ""


def _differing(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from _differing(old.get(key), new.get(key), f"{path}.{key}")
    elif old != new:
        yield f"{path}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _try_lock(fd: int) -> bool:
    """Take the lock; more than once, because a report looks whether it is held by taking it for a moment."""
    for attempt in range(3):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if attempt < 2:
                time.sleep(0.02)
        else:
            return True
    return False


def _settings(config: RunConfig) -> dict[str, str]:
    """What requests are made of, beside the input: the parts whose change makes them other requests."""
    parts: dict[str, Any] = {
        "request": config.request,
        "target.base_url": config.target.base_url,
        "target.mode": config.target.mode,
        "target.idempotency_header": config.target.idempotency_header,
    }
    return {
        name: hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]
        for name, value in parts.items()
    }


def _salted(key: str, salt: str) -> str:
    return hmac.new(bytes.fromhex(salt), key.encode(), hashlib.sha256).hexdigest()


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
