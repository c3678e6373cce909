"""How the files of a run directory are written and read: appended by whole lines, or replaced atomically."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from runner.errors import Problem, StorageError

_BLOCK_BYTES: Final = 1 << 18
RESERVE_SIZES_BYTES: Final = (1 << 20, 1 << 18, 1 << 16)
"""Sizes of the reserve, the largest first; the largest that fits on the disk is taken.

1 MiB has room for about as many results as there are GETs in flight.
"""
RESERVE_FILES: Final = 8
"""Open files in the reserve: for the summary, and for what an event loop opens while it shuts down."""


class AppendLog:
    """A file that only grows, by whole lines. Once `append` returns, the lines survive kill -9.

    After `sync` they survive a power cut. After a write error the file is cut back to its last whole line
    and the log accepts no more; lines that it could not write are kept in memory for `rescue`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            is_new = not path.exists()
            self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o644)
            self.size_bytes = os.fstat(self._fd).st_size
            if is_new:
                sync_directory(path.parent)
        except OSError as error:
            raise storage_error("opened", path, error) from None
        self._unsynced = self._torn = False
        self._unwritten: list[bytes] = []
        self._broken: StorageError | None = None
        self._sync_failed: StorageError | None = None
        self._syncing = threading.Lock()

    def append(self, lines: bytes, *, need_rescue: bool = True) -> None:
        """Write `lines`, each with its newline. Raises `StorageError`: once it did, it always does.

        Lines that cannot be written are kept for `rescue` if they `need_rescue`, because they report what has
        happened; others are dropped.
        """
        if not self._broken:
            try:
                self._write(lines)
            except OSError as error:
                self._broken = storage_error("written", self.path, error)
        if self._broken:
            if need_rescue:
                self._unwritten.append(lines)
            raise self._broken

    def rescue(self) -> bool:
        """Try to write the lines that failed before, and return whether all of them are written now."""
        while self._unwritten:
            try:
                self._write(self._unwritten[0])
            except OSError:
                return False
            del self._unwritten[0]
        return True

    def sync(self) -> None:
        """Wait until all appended lines are on the disk, under the name of the file; blocking.

        A failed sync is not repeated: the kernel may have dropped the pages that it could not write, and then
        reports success (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). Raises
        `StorageError`.
        """
        with self._syncing:  # the last sync of a run waits for one that is still in progress
            if self._sync_failed:
                raise self._sync_failed
            try:
                if self._unsynced:
                    self._unsynced = False
                    os.fdatasync(self._fd)
                is_in_place = os.path.samestat(os.fstat(self._fd), self.path.stat())
            except FileNotFoundError:
                is_in_place = False
            except OSError as error:
                self._sync_failed = storage_error("synced", self.path, error)
                raise self._sync_failed from None
        if not is_in_place:
            what = "was removed, moved or replaced while it was being written"
            raise StorageError(Problem(what, str(self.path), "put it back to continue the run"))

    def close(self) -> None:
        """Close the file without a sync."""
        os.close(self._fd)

    def _write(self, lines: bytes) -> None:
        if self._torn:
            self._cut_back()
        try:
            write_all(self._fd, lines)
        except OSError:
            self._torn = True
            with suppress(OSError):  # then it is cut before the next write, or when the run is continued
                self._cut_back()
            raise
        self.size_bytes += len(lines)
        self._unsynced = True

    def _cut_back(self) -> None:
        os.ftruncate(self._fd, self.size_bytes)
        self._torn = False


class Reserve:
    """Disk space and open files that are held back for the end of a run.

    Results that were received when the disk became full are written into that space: a service may forget a
    result soon after it was fetched, so it should not have to be fetched twice. On a small disk the reserve
    is smaller, or empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[int] = []
        with suppress(OSError):
            for _ in range(RESERVE_FILES):
                self._files.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for size_bytes in RESERVE_SIZES_BYTES:
            try:
                fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
                try:
                    os.posix_fallocate(fd, 0, size_bytes)
                finally:
                    os.close(fd)
            except (OSError, AttributeError):  # not every system has posix_fallocate
                self._free_space()
            else:
                return

    def release(self) -> None:
        """Free the space and the files; harmless to repeat."""
        self._free_space()
        while self._files:
            os.close(self._files.pop())

    def _free_space(self) -> None:
        with suppress(OSError):
            self._path.unlink()


class LineSnapshot:
    """The whole lines that a file has at one moment, to be read later, while others append to it.

    Bytes before the last newline of such a file never change; what stands behind it may be half a line, or be
    cut and written again. A file that is replaced or removed meanwhile is read as it was.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and remember where its last whole line ends. Raises `StorageError`.

        A file that does not exist has no lines.
        """
        self.path = path
        self._left_bytes = 0
        self._file = None
        try:
            self._file = path.open("rb", buffering=_BLOCK_BYTES)
            fd = self._file.fileno()
            self._left_bytes = _end_of_last_line(fd, os.fstat(fd).st_size)
        except FileNotFoundError:
            return
        except OSError as error:
            self.close()
            raise storage_error("read", path, error) from None

    def close(self) -> None:
        """Close the file; harmless to repeat."""
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        """Yield each line once, in order, without its newline. Raises `StorageError`."""
        try:
            while self._file and self._left_bytes:
                line = self._file.readline()
                if not line.endswith(b"\n"):
                    return  # somebody cut the file
                self._left_bytes -= len(line)
                yield line[:-1]
        except OSError as error:
            raise storage_error("read", self.path, error) from None


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the whole lines that a file has now, without newlines; none for a file that does not exist.

    Half a line at the end is left out. Raises `StorageError`.
    """
    lines = LineSnapshot(path)
    try:
        yield from lines
    finally:
        lines.close()


def replace_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file so that readers, and the disk after a power cut, have the old content or the new one.

    Raises `StorageError`.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        try:
            for piece in (content,) if isinstance(content, bytes) else content:
                write_all(fd, piece)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error("written", path, error) from None


def write_all(fd: int, content: bytes) -> None:
    """Write all of `content`, with several calls where the kernel takes less. Raises `OSError`."""
    written = os.write(fd, content)
    while written < len(content):
        written += os.write(fd, memoryview(content)[written:])


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def cut_torn_tail(path: Path) -> int:
    """Cut off the bytes behind the last newline of a file, and return how many there were.

    Raises `StorageError`.
    """
    try:
        with path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            whole = _end_of_last_line(file.fileno(), end)
            if whole < end:
                file.truncate(whole)
                os.fsync(file.fileno())
            return end - whole
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error("repaired", path, error) from None


def _end_of_last_line(fd: int, end: int) -> int:
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def storage_error(verb: str, path: Path, error: OSError) -> StorageError:
    """Return the error for a file of the run that cannot be `verb` (a participle: "written")."""
    return StorageError(
        Problem(
            f"cannot be {verb}: {error.strerror or error}",
            str(path),
            "free space or fix the cause, then run the same command again: nothing written so far is lost",
        )
    )
