"""Files are appended by whole lines or replaced atomically: full disks, torn ends and kill -9 included."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import StorageError
from runner.store import RunDir
from runner.store.files import (
    RESERVE_SIZES_BYTES,
    AppendLog,
    LineSnapshot,
    Reserve,
    cut_torn_tail,
    read_lines,
    replace_atomically,
)

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


def test_lines_are_in_the_file_when_append_returns_and_later_sessions_add_more(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "log")
    log.append(b"one\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"
    log.append(b"two\nthree\n")
    log.sync()
    log.sync()
    log.close()

    later = AppendLog(tmp_path / "log")
    later.append(b"four\n")
    assert later.size_bytes == 19
    later.close()
    assert list(read_lines(tmp_path / "log")) == [b"one", b"two", b"three", b"four"]


def test_lines_survive_a_kill_without_a_sync(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from runner.store.files import AppendLog\n"
        "log = AppendLog(Path(sys.argv[1]))\n"
        "for n in range(1000): log.append(b'%d\\n' % n)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, tmp_path / "log"])

    assert ran.returncode == -signal.SIGKILL
    assert list(read_lines(tmp_path / "log")) == [b"%d" % n for n in range(1000)]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from runner.errors import StorageError
from runner.store.files import AppendLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AppendLog(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    while True:
        log.append(b"x" * 299 + b"\\n")
except StorageError as error:
    print(error)
if sys.argv[2:] == ["more"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        log.append(b"later\\n")
    except StorageError as error:
        print("refused")
"""


def _fill_the_disk(path: Path, *more: str) -> list[str]:
    command = [sys.executable, "-c", FULL_DISK, str(path), *more]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_write_error_cuts_the_file_back_to_its_last_whole_line(tmp_path: Path) -> None:
    (said,) = _fill_the_disk(tmp_path / "log")

    assert (tmp_path / "log").read_bytes() == (b"x" * 299 + b"\n") * 3
    assert said.startswith(f"{tmp_path / 'log'}: cannot be written: ")
    assert "run the same command again" in said


def test_a_log_accepts_no_more_after_a_write_error(tmp_path: Path) -> None:
    assert _fill_the_disk(tmp_path / "log", "more")[1:] == ["refused"]
    assert len(list(read_lines(tmp_path / "log"))) == 3


@needs_dev_full
def test_a_full_disk_raises_a_storage_error_with_exit_code_3() -> None:
    log = AppendLog(Path("/dev/full"))
    with pytest.raises(StorageError, match="/dev/full: cannot be written: No space left") as raised:
        log.append(b"x\n")
    log.close()
    assert raised.value.exit_code == 3


def test_a_log_that_cannot_be_opened_raises_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        AppendLog(tmp_path / "no" / "log")
    with pytest.raises(StorageError, match="cannot be opened"):
        AppendLog(tmp_path)


def test_replacing_leaves_the_new_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    replace_atomically(path, b"one")
    replace_atomically(path, b"two")

    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_a_reader_of_the_old_file_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    replace_atomically(path, b"one")
    with path.open("rb") as reader:
        replace_atomically(path, b"two")
        assert reader.read() == b"one"


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        replace_atomically(path, b"two")
    assert path.is_dir()


def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    program = (
        "import sys; from pathlib import Path; from runner.store.files import replace_atomically\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    replace_atomically(Path(sys.argv[1]), b'%d ' % n * 5_000)\n"
        "    if n == 1: print('going', flush=True)\n"
    )
    for round_ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            assert writer.stdout.readline() == b"going\n"
            for _ in range(15 * round_):  # so that each kill hits another moment of the work
                numbers = path.read_bytes().split()
                assert len(numbers) == 5_000
                assert len(set(numbers)) == 1
            writer.send_signal(signal.SIGKILL)
        numbers = path.read_bytes().split()
        assert len(numbers) == 5_000
        assert len(set(numbers)) == 1


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"", b""),
        (b"whole\n", b"whole\n"),
        (b"whole\ntorn", b"whole\n"),
        (b"torn", b""),
        (b"\n\ntorn", b"\n\n"),
        (b"a\n" + b"t" * 700_000, b"a\n"),
        (b"t" * 700_000, b""),
        (b"a\n" * 300_000 + b"torn", b"a\n" * 300_000),
    ],
    ids=lambda content: f"{content[:6]!r}-{len(content)}",
)
def test_a_torn_line_at_the_end_is_cut_off(tmp_path: Path, content: bytes, left: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    whole = list(read_lines(path))

    assert cut_torn_tail(path) == len(content) - len(left)
    assert path.read_bytes() == left
    assert cut_torn_tail(path) == 0
    assert list(read_lines(path)) == whole == left.split(b"\n")[:-1]


def test_a_missing_file_has_no_lines_and_no_torn_end(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "none")) == []
    assert cut_torn_tail(tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()


def test_a_file_that_cannot_be_read_raises_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        list(read_lines(tmp_path))
    with pytest.raises(StorageError, match="cannot be repaired"):
        cut_torn_tail(tmp_path)


@given(
    lines=st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=8), data=st.data()
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_cut_anywhere_reads_as_a_prefix_of_its_lines_and_can_be_continued(
    tmp_path: Path, lines: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    path = tmp_path / "log"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    kept = list(read_lines(path))
    assert kept == lines[: len(kept)]

    cut_torn_tail(path)
    log = AppendLog(path)
    log.append(b"next\n")
    log.close()
    assert list(read_lines(path)) == [*kept, b"next"]
    path.unlink()


def test_a_reserve_takes_space_until_it_is_released_or_the_directory_is_repaired(run_dir: RunDir) -> None:
    reserve = Reserve(run_dir.reserve)
    assert run_dir.reserve.stat().st_blocks * 512 >= RESERVE_SIZES_BYTES[0]
    reserve.release()
    assert not run_dir.reserve.exists()
    reserve.release()
    Reserve(run_dir.reserve)  # left behind by a kill
    (run_dir.path / ".summary.json.tmp").write_bytes(b"{")
    assert run_dir.repair() == {}
    assert not list(run_dir.path.iterdir())


@pytest.mark.parametrize("space_bytes", RESERVE_SIZES_BYTES[1:])
def test_a_reserve_is_smaller_where_there_is_little_space(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, space_bytes: int
) -> None:
    def fallocate(fd: int, _offset: int, size: int) -> None:
        if size > space_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.truncate(fd, size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    Reserve(run_dir.reserve).release()
    reserve = Reserve(run_dir.reserve)
    assert run_dir.reserve.stat().st_size == space_bytes
    reserve.release()


def test_a_system_that_cannot_allocate_has_no_reserve(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    reserve = Reserve(run_dir.reserve)
    assert not run_dir.reserve.exists()
    reserve.release()


def test_a_torn_line_that_cannot_be_cut_at_once_is_cut_before_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AppendLog(tmp_path / "log")
    log.append(b"one\n")
    real_write, real_truncate = os.write, os.ftruncate

    def half(fd: int, data: bytes) -> int:
        if len(data) > 3:
            return real_write(fd, data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(StorageError):
            log.append(b"second\n")
        assert not log.rescue()
        patch.setattr(os, "ftruncate", real_truncate)
        assert not log.rescue()
    assert log.rescue()
    log.close()
    assert (tmp_path / "log").read_bytes() == b"one\nsecond\n"


def test_a_snapshot_has_the_whole_lines_of_its_moment_whatever_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'one\n{"half')
    lines = LineSnapshot(path)
    with path.open("ab") as writer:
        writer.write(b'":1}\ntwo\n')

    assert list(lines) == [b"one"]
    lines.close()
    assert list(read_lines(path)) == [b"one", b'{"half":1}', b"two"]


def test_a_snapshot_has_its_lines_when_a_torn_end_is_cut_and_other_lines_are_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\ntorn" + b"." * 600_000)
    lines = LineSnapshot(path)
    first = next(iter(lines))
    cut_torn_tail(path)
    with path.open("ab") as writer:
        writer.write(b"3\n" * 400_000)

    assert [first, *lines] == [b"one", b"two"]
    lines.close()


def test_a_snapshot_of_a_file_that_is_replaced_has_the_old_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    lines = LineSnapshot(path)
    replace_atomically(path, b"three\n")

    assert list(lines) == [b"one", b"two"]
    lines.close()
    lines.close()
