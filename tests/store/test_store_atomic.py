"""Every file is whole after a kill before, after or during any system call, and after any failed call."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.config import RunConfig, load
from runner.errors import StorageError
from runner.source import Survey
from runner.store import AppendLog, RunDir, replace_atomically
from runner.store.files import cut_torn_tail, read_lines

ROOT = Path(__file__).resolve().parents[2]
OLD = "old " * 1_000
NEW = "new " * 2_500
LINES = [f"{n}-" * 700 for n in range(5)]
CONFIG = {"name": "t", "request": {"model": "m", "user": "u" * 5_000}}
KEY = "sekret-123456"
SETTINGS = {"old": OLD, "new": NEW, "lines": LINES, "config": CONFIG, "key": KEY, "piece_bytes": 1_000}
"""Settings for `crashing.py`. `piece_bytes` is the most that one write takes, so that all need several."""


@dataclass
class Crash:
    """A process that was killed at its call number `at`, and the directory that it left."""

    at: int
    moment: str
    path: Path

    def came_after(self, call: int) -> bool:
        """Return whether call number `call` was made."""
        return self.at > call or (self.at == call and self.moment == "after")


@dataclass
class Crashes:
    """All crashes of a job, and the calls of a process that was not killed: (name, path)."""

    crashes: list[Crash]
    calls: list[tuple[str, str]]

    def number(self, name: str, suffix: str, *, last: bool = False) -> int:
        """Return the number of the first (or last) call of this name on a path with this suffix."""
        found = [n for n, call in enumerate(self.calls, 1) if call[0] == name and call[1].endswith(suffix)]
        return found[-1 if last else 0]


@pytest.fixture(scope="module")
def crashes_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Crashes]:
    """Return a function that runs `crashing.py` for a job, once, and returns its crashes."""
    known: dict[str, Crashes] = {}

    def crashes_of(job: str) -> Crashes:
        if job not in known:
            known[job] = _crash(job, tmp_path_factory.mktemp(job))
        return known[job]

    return crashes_of


def _crash(job: str, root: Path) -> Crashes:
    program = str(Path(__file__).with_name("crashing.py"))
    command = [sys.executable, program, job, str(root), json.dumps(SETTINGS)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    tries = [json.loads(line) for line in ran.stdout.splitlines()]
    last, _ = tries.pop()
    calls = [(name, path) for name, path in json.loads((root / f"{last}-before/calls.json").read_text())]
    assert [at for at, _ in tries] == list(range(1, len(calls) + 1))
    for at, ended in tries:
        survives = 0 if calls[at - 1][0] != "write" else -signal.SIGKILL
        assert ended == {"before": -signal.SIGKILL, "half": survives, "after": -signal.SIGKILL}
    died = [(at, moment) for at, ended in tries for moment in ended if ended[moment]]
    return Crashes([Crash(at, moment, root / f"{at}-{moment}") for at, moment in died], calls)


def test_a_kill_at_any_call_leaves_the_old_file_or_the_new_one_and_no_obstacle(
    crashes_of: Callable[[str], Crashes],
) -> None:
    job = crashes_of("replace")
    renamed = job.number("replace", "/file")
    assert Counter(name for name, _ in job.calls)["write"] > 2
    for crash in job.crashes:
        path = crash.path / "file"
        assert path.read_text() == (NEW if crash.came_after(renamed) else OLD), crash
        replace_atomically(path, b"next")
        assert path.read_bytes() == b"next", crash
        assert [entry.name for entry in crash.path.iterdir()] == ["file"], crash


def test_content_is_synced_before_the_rename_and_the_directory_after_it(
    crashes_of: Callable[[str], Crashes],
) -> None:
    job = crashes_of("replace")
    opened, synced = job.number("open", ".tmp"), job.number("fsync", ".tmp")
    written, renamed = job.number("write", ".tmp", last=True), job.number("replace", "/file")
    directory_synced = job.number("fsync", str(job.crashes[0].path.parent / f"{len(job.calls) + 1}-before"))
    assert opened < written < synced < renamed < directory_synced
    names = Counter(name for name, _ in job.calls)
    assert names["open"] == names["close"] == 2


def test_a_kill_at_any_call_of_a_creation_leaves_no_run_or_a_whole_one(
    crashes_of: Callable[[str], Crashes],
) -> None:
    job = crashes_of("create")
    created = job.number("replace", "/manifest.json")
    assert job.number("replace", "/config.yaml") < created
    config = RunConfig.model_validate(CONFIG)
    for crash in job.crashes:
        run_dir = RunDir(crash.path / "runs" / "t")
        assert run_dir.exists is crash.came_after(created), crash
        assert not run_dir.is_held, crash
        if run_dir.config.exists():
            assert load(run_dir.config, environ={}) == config, crash
        run_dir.lock()
        if run_dir.exists:
            assert run_dir.config.exists(), crash
            assert (run_dir.read_manifest().name, run_dir.read_manifest().rows) == ("t", 20), crash
        else:
            made = run_dir.create(config, Survey(rows=7, fingerprint="e" * 64), KEY)
            assert run_dir.read_manifest() == made, crash
            assert load(run_dir.config, environ={}) == config, crash
            assert {entry.name for entry in run_dir.path.iterdir()} == {
                ".lock", "config.yaml", "manifest.json",
            }, crash  # fmt: skip
        run_dir.unlock()


def test_a_kill_at_any_call_of_a_log_keeps_every_reported_line_and_no_other_half_line(
    crashes_of: Callable[[str], Crashes],
) -> None:
    job = crashes_of("append")
    torn = 0
    for crash in job.crashes:
        path = crash.path / "log"
        reported = (crash.path / "reported").stat().st_size
        kept = [line.decode() for line in read_lines(path)]
        assert kept == LINES[: len(kept)], crash
        assert reported <= len(kept) <= reported + 1, crash
        torn += bool(cut_torn_tail(path))
        log = AppendLog(path)
        log.append(b"next\n")
        log.close()
        assert path.read_text() == "".join(f"{line}\n" for line in [*kept, "next"]), crash
    assert torn >= len(LINES)


Refuse = Callable[[str, Path, int], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Return `refuse(call, path, number)`, which makes this call of `os` on this path fail with this errno.

    All other calls are made. A write first takes half of its content, as on a disk that is getting full.
    """

    def refuse(name: str, path: Path, number: int) -> None:
        real = getattr(os, name)
        refused: list[int] = []

        def call(*arguments: Any, **options: Any) -> Any:
            if not is_on(path, arguments[0]):
                return real(*arguments, **options)
            if name == "write" and not refused:
                refused.append(1)
                return real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if name == "close":  # a failed close closes the descriptor
                real(*arguments)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, call)

    return refuse


def is_on(path: Path, what: Path | int) -> bool:
    """Return whether a path, or an open file descriptor, is this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(what)) if isinstance(what, int) else what == path
    except OSError:
        return False


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("open", errno.EMFILE),
        ("write", errno.ENOSPC),
        ("fsync", errno.EIO),
        ("close", errno.EDQUOT),
        ("replace", errno.EACCES),
    ],
)
def test_a_failed_call_is_reported_and_leaves_the_old_file_as_it_was(
    tmp_path: Path, refuse: Refuse, call: str, number: int
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(OLD)
    refuse(call, tmp_path / ".summary.json.tmp", number)
    with pytest.raises(StorageError) as raised:
        replace_atomically(path, NEW.encode())
    assert str(raised.value).startswith(f"{path}: cannot be written: {os.strerror(number)} (")
    assert path.read_text() == OLD
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(("call", "number"), [("open", errno.EMFILE), ("fsync", errno.EIO)])
def test_a_failed_directory_sync_is_reported_and_the_file_is_whole(
    tmp_path: Path, refuse: Refuse, call: str, number: int
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(OLD)
    refuse(call, tmp_path, number)
    with pytest.raises(StorageError) as raised:
        replace_atomically(path, NEW.encode())
    assert str(raised.value).startswith(f"{path}: cannot be written: {os.strerror(number)} (")
    assert path.read_text() == NEW
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_a_temporary_file_that_cannot_be_removed_hides_no_error_and_does_not_block_the_next_one(
    tmp_path: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, temporary = tmp_path / "summary.json", tmp_path / ".summary.json.tmp"
    path.write_text(OLD)
    refuse("write", temporary, errno.ENOSPC)
    refuse("unlink", temporary, errno.EPERM)
    with pytest.raises(StorageError, match="No space left on device"):
        replace_atomically(path, NEW.encode())
    monkeypatch.undo()
    assert temporary.exists()
    assert path.read_text() == OLD
    replace_atomically(path, b"next")
    assert path.read_bytes() == b"next"
    assert not temporary.exists()


def test_a_creation_that_fails_half_way_is_no_run(
    tmp_path: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = RunDir(tmp_path / "t")
    run_dir.lock()
    config, survey = RunConfig.model_validate(CONFIG), Survey(rows=20, fingerprint="f" * 64)
    refuse("write", run_dir.path / ".manifest.json.tmp", errno.ENOSPC)
    with pytest.raises(StorageError, match=r"manifest\.json: cannot be written: No space left on device"):
        run_dir.create(config, survey, KEY)
    assert not run_dir.exists
    assert {entry.name for entry in run_dir.path.iterdir()} == {".lock", "config.yaml"}
    monkeypatch.undo()
    assert run_dir.create(config, survey, KEY) == run_dir.read_manifest()
    run_dir.unlock()


def test_a_log_that_cannot_be_opened_reports_the_reason(tmp_path: Path, refuse: Refuse) -> None:
    refuse("open", tmp_path / "log", errno.EMFILE)
    with pytest.raises(StorageError) as raised:
        AppendLog(tmp_path / "log")
    assert str(raised.value).startswith(f"{tmp_path / 'log'}: cannot be opened: Too many open files (")


@pytest.mark.parametrize("can_be_cut", [True, False])
def test_a_log_that_fails_in_the_middle_of_a_line_keeps_the_lines_before_and_accepts_no_more(
    tmp_path: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch, can_be_cut: bool
) -> None:
    path = tmp_path / "log"
    log = AppendLog(path)
    log.append(b"one\n")
    refuse("write", path, errno.ENOSPC)
    if not can_be_cut:
        refuse("ftruncate", path, errno.EIO)
    for _ in range(2):
        with pytest.raises(StorageError) as raised:
            log.append(b"a second line\n")
        assert str(raised.value).startswith(f"{path}: cannot be written: No space left on device (")
    monkeypatch.undo()
    with pytest.raises(StorageError):
        log.append(b"three\n")
    log.close()
    assert path.read_bytes() == (b"one\n" if can_be_cut else b"one\na secon")
    assert list(read_lines(path)) == [b"one"]
    assert cut_torn_tail(path) == (0 if can_be_cut else 7)
    assert path.read_bytes() == b"one\n"


def test_a_log_that_cannot_be_synced_reports_it_each_time_and_keeps_its_lines(
    tmp_path: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    log = AppendLog(path)
    log.append(b"one\n")
    refuse("fdatasync", path, errno.EIO)
    for _ in range(2):
        with pytest.raises(StorageError) as raised:
            log.sync()
        assert str(raised.value).startswith(f"{path}: cannot be synced: Input/output error (")
    monkeypatch.undo()
    with pytest.raises(StorageError):  # the kernel may report success now although pages are lost
        log.sync()
    log.close()
    assert path.read_bytes() == b"one\n"
