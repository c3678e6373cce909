"""Two ways to write, and no third: append whole lines, or replace a file atomically."""

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
"""For the answers to about all GETs in flight; the largest for which there is room."""
RESERVE_FILES: Final = 8
"""For the summary, and for what an event loop opens to end."""


class AppendLog:
    """A file that only grows, by whole lines. Once `append` returns, kill -9 keeps them: the kernel has them.

    `sync` makes it survive a power cut too. After a write error the file is cut back to its last whole line,
    and the log takes no more; what it was given is kept in memory for `rescue`.
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

    def append(self, lines: bytes, *, is_owed: bool = True) -> None:
        """Write `lines`, each ended by a newline. Raises `StorageError`, and after that for ever.

        What cannot be written is kept for `rescue` if it `is_owed`: if it tells of something that happened.
        """
        if not self._broken:
            try:
                self._write(lines)
            except OSError as error:
                self._broken = storage_error("written", self.path, error)
        if self._broken:
            if is_owed:
                self._unwritten.append(lines)
            raise self._broken

    def rescue(self) -> bool:
        """Try again to write what could not be written; whether all of it is written now."""
        while self._unwritten:
            try:
                self._write(self._unwritten[0])
            except OSError:
                return False
            del self._unwritten[0]
        return True

    def sync(self) -> None:
        """Wait until all that was appended is on the disk, under its name; blocking. Raises `StorageError`.

        A failed sync is not tried again: the kernel may have dropped the pages that it could not write, and
        then says that all is well (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
        """
        with self._syncing:  # a run that ends does not overtake the sync that is under way
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
        os.close(self._fd)

    def _write(self, lines: bytes) -> None:
        if self._torn:
            self._cut_back()
        try:
            written = os.write(self._fd, lines)
            while written < len(lines):
                written += os.write(self._fd, lines[written:])
        except OSError:
            self._torn = True
            with suppress(OSError):  # else before the next try, or when the run is continued
                self._cut_back()
            raise
        self.size_bytes += len(lines)
        self._unsynced = True

    def _cut_back(self) -> None:
        os.ftruncate(self._fd, self.size_bytes)
        self._torn = False


class Reserve:
    """What is kept back for the end of a run: room on the disk, and open files.

    Results that were received when the disk was full are written into that room: a service may forget a
    result soon after it was fetched, so it should not have to be asked twice. Where there is little room it
    is smaller, and where none can be set apart there is none to give back.
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
                self._give_room()
            else:
                return

    def release(self) -> None:
        """Give it all back; harmless to repeat."""
        self._give_room()
        while self._files:
            os.close(self._files.pop())

    def _give_room(self) -> None:
        with suppress(OSError):
            self._path.unlink()


def replace_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Readers see the old file or the new one, never a part; so does the disk after a power cut.

    Raises `StorageError`.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        try:
            for piece in (content,) if isinstance(content, bytes) else content:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error("written", path, error) from None


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def cut_torn_tail(path: Path) -> int:
    """Cut what stands after the last newline of a file, if anything, and say how many bytes that was."""
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


def read_lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file, without newlines; a torn one at the end is left out. No file, no lines."""
    try:
        with path.open("rb", buffering=_BLOCK_BYTES) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written, perhaps: what is read next would be its other half
                yield line[:-1]
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error("read", path, error) from None


def _end_of_last_line(fd: int, end: int) -> int:
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def storage_error(verb: str, path: Path, error: OSError) -> StorageError:
    """What a run ends with that can no longer write, or read, a file of its own."""
    return StorageError(
        Problem(
            f"cannot be {verb}: {error.strerror or error}",
            str(path),
            "make room or repair it, then run the same command again: nothing that was written is lost",
        )
    )
