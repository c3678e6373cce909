"""Killed before, after or in the middle of any system call, or told "no" by one: every file is whole."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
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
"""`piece_bytes`: the most that one write takes, so that every content takes several."""


@dataclass
class Crash:
    """A process that died at its call number `at`, and the directory that it left."""

    at: int
    moment: str
    path: Path

    def came_after(self, call: int) -> bool:
        """Whether call number `call` was made."""
        return self.at > call or (self.at == call and self.moment == "after")


@dataclass
class Crashes:
    """All crashes of a job, and the calls of one that was left alone: (name, what it is about)."""

    crashes: list[Crash]
    calls: list[tuple[str, str]]

    def number(self, name: str, about: str, *, last: bool = False) -> int:
        """The number of the first (or last) call of this name about a path that ends so."""
        found = [n for n, call in enumerate(self.calls, 1) if call[0] == name and call[1].endswith(about)]
        return found[-1 if last else 0]


@pytest.fixture(scope="module")
def crashes_of(tmp_path_factory: pytest.TempPathFactory):
    """`crashes_of(job)`: what `crashing.py` left of a job; each job is done once."""
    known = {}

    def crashes_of(job):
        if job not in known:
            known[job] = _crash(job, tmp_path_factory.mktemp(job))
        return known[job]

    return crashes_of


def _crash(job, root):
    command = [sys.executable, Path(__file__).with_name("crashing.py"), job, root, json.dumps(SETTINGS)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    tries = [json.loads(line) for line in ran.stdout.splitlines()]
    last, _ = tries.pop()
    calls = [tuple(call) for call in json.loads((root / f"{last}-before" / "calls.json").read_text())]
    assert [at for at, _ in tries] == list(range(1, len(calls) + 1))
    for at, ended in tries:
        survives = 0 if calls[at - 1][0] != "write" else -signal.SIGKILL
        assert ended == {"before": -signal.SIGKILL, "half": survives, "after": -signal.SIGKILL}
    died = [(at, moment) for at, ended in tries for moment in ended if ended[moment]]
    return Crashes([Crash(at, moment, root / f"{at}-{moment}") for at, moment in died], calls)


def test_a_kill_at_any_call_leaves_the_old_file_or_the_new_one_and_nothing_in_the_way(
    crashes_of: Any,
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


def test_content_is_on_the_disk_before_it_has_the_name_and_the_name_before_it_is_reported(
    crashes_of: Any,
) -> None:
    job = crashes_of("replace")
    opened, synced = job.number("open", ".tmp"), job.number("fsync", ".tmp")
    written, renamed = job.number("write", ".tmp", last=True), job.number("replace", "/file")
    directory_synced = job.number("fsync", str(job.crashes[0].path.parent / f"{len(job.calls) + 1}-before"))
    assert opened < written < synced < renamed < directory_synced
    names = Counter(name for name, _ in job.calls)
    assert names["open"] == names["close"] == 2


def test_a_kill_at_any_call_of_a_beginning_leaves_no_run_or_a_whole_one(crashes_of: Any) -> None:
    job = crashes_of("create")
    begun = job.number("replace", "/manifest.json")
    assert job.number("replace", "/config.yaml") < begun
    config = RunConfig.model_validate(CONFIG)
    for crash in job.crashes:
        run_dir = RunDir(crash.path / "runs" / "t")
        assert run_dir.exists is crash.came_after(begun), crash
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


def test_a_kill_at_any_call_of_a_log_keeps_every_line_that_was_reported_and_no_half_of_another(
    crashes_of: Any,
) -> None:
    job = crashes_of("append")
    torn = 0
    for crash in job.crashes:
        path = crash.path / "log"
        reported = (crash.path / "told").stat().st_size
        kept = [line.decode() for line in read_lines(path)]
        assert kept == LINES[: len(kept)], crash
        assert reported <= len(kept) <= reported + 1, crash
        torn += bool(cut_torn_tail(path))
        log = AppendLog(path)
        log.append(b"next\n")
        log.close()
        assert path.read_text() == "".join(f"{line}\n" for line in [*kept, "next"]), crash
    assert torn >= len(LINES)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch):
    """`refuse(call, path, number)`: this call of `os`, about this path, fails so; all others are made.

    A write takes half of what it is given first, as on a disk that is getting full.
    """

    def refuse(name, path, number):
        real = getattr(os, name)
        refused = []

        def call(*arguments, **options):
            if not is_about(path, arguments[0]):
                return real(*arguments, **options)
            if name == "write" and not refused:
                refused.append(1)
                return real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if name == "close":  # the descriptor is gone all the same
                real(*arguments)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, call)

    return refuse


def is_about(path, what):
    """Whether a path, or a descriptor, is this one."""
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
def test_what_the_system_refuses_is_told_and_leaves_the_old_file_alone(
    tmp_path: Path, refuse: Any, call: str, number: Any
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(OLD)
    refuse(call, tmp_path / ".summary.json.tmp", number)
    with pytest.raises(StorageError) as told:
        replace_atomically(path, NEW.encode())
    assert str(told.value).startswith(f"{path}: cannot be written: {os.strerror(number)} (")
    assert path.read_text() == OLD
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(("call", "number"), [("open", errno.EMFILE), ("fsync", errno.EIO)])
def test_a_name_that_may_not_survive_a_power_cut_is_told_and_the_file_is_whole(
    tmp_path: Path, refuse: Any, call: str, number: Any
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(OLD)
    refuse(call, tmp_path, number)
    with pytest.raises(StorageError) as told:
        replace_atomically(path, NEW.encode())
    assert str(told.value).startswith(f"{path}: cannot be written: {os.strerror(number)} (")
    assert path.read_text() == NEW
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_a_temporary_that_cannot_be_removed_hides_no_reason_and_is_in_nobodys_way(
    tmp_path: Path, refuse: Any, monkeypatch: pytest.MonkeyPatch
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


def test_a_beginning_that_is_refused_half_way_is_no_run(
    tmp_path: Path, refuse: Any, monkeypatch: pytest.MonkeyPatch
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


def test_a_log_that_cannot_be_opened_says_why(tmp_path: Path, refuse: Any) -> None:
    refuse("open", tmp_path / "log", errno.EMFILE)
    with pytest.raises(StorageError) as told:
        AppendLog(tmp_path / "log")
    assert str(told.value).startswith(f"{tmp_path / 'log'}: cannot be opened: Too many open files (")


@pytest.mark.parametrize("can_be_cut", [True, False])
def test_a_log_refused_in_the_middle_of_a_line_keeps_the_lines_before_and_takes_no_more(
    tmp_path: Path, refuse: Any, monkeypatch: pytest.MonkeyPatch, can_be_cut: bool
) -> None:
    path = tmp_path / "log"
    log = AppendLog(path)
    log.append(b"one\n")
    refuse("write", path, errno.ENOSPC)
    if not can_be_cut:
        refuse("ftruncate", path, errno.EIO)
    for _ in range(2):
        with pytest.raises(StorageError) as told:
            log.append(b"a second line\n")
        assert str(told.value).startswith(f"{path}: cannot be written: No space left on device (")
    monkeypatch.undo()
    with pytest.raises(StorageError):
        log.append(b"three\n")
    log.close()
    assert path.read_bytes() == (b"one\n" if can_be_cut else b"one\na secon")
    assert list(read_lines(path)) == [b"one"]
    assert cut_torn_tail(path) == (0 if can_be_cut else 7)
    assert path.read_bytes() == b"one\n"


def test_a_log_that_cannot_be_synced_says_so_each_time_and_keeps_its_lines(
    tmp_path: Path, refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    log = AppendLog(path)
    log.append(b"one\n")
    refuse("fdatasync", path, errno.EIO)
    for _ in range(2):
        with pytest.raises(StorageError) as told:
            log.sync()
        assert str(told.value).startswith(f"{path}: cannot be synced: Input/output error (")
    monkeypatch.undo()
    with pytest.raises(StorageError):  # what the kernel says now need not be true
        log.sync()
    log.close()
    assert path.read_bytes() == b"one\n"
