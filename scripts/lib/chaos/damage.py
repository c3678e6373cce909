"""Damage to files: a power cut that tears their ends, and a disk without room."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from scripts.lib.chaos.trial_plan import Tear

ROOMY_BYTES: Final = 256 << 20
"""Size in bytes of a file system that has room."""
MOST_GARBAGE_BYTES: Final = 200
UNMOUNT_PATIENCE_S: Final = 15.0
SYNCED: Final = (b'{"event":"batch",', b'{"event":"reopened",')
"""Beginnings of the journal lines that are synced before anything else happens: a power cut leaves them."""


def tear(path: Path, how: Tear) -> bool:
    """Leave the end of a file as a power cut could; return False if there is nothing to tear."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    last_line = content[content.rfind(b"\n", 0, -1) + 1 :]
    if how.kind == "cut" and last_line.startswith(SYNCED):
        return False
    part = 1 + int(how.amount * (len(last_line) - 1))
    if how.kind == "cut":
        if last_line:
            os.truncate(path, len(content) - part)
        return bool(last_line)
    garbage = random.Random(how.amount).randbytes(1 + int(how.amount * MOST_GARBAGE_BYTES))
    half_line = last_line.rstrip(b"\n")[:part] or b'{"custom_id":"row-1","ro'
    with path.open("ab") as file:
        file.write(half_line if how.kind == "half a line" else garbage.replace(b"\n", b"\0"))
    return True


class Tmpfs:
    """A file system mounted over a directory, whose size can change; only root can mount it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def mount(cls, path: Path) -> Self | None:
        """Mount a file system with room; return None where that is not possible."""
        if os.geteuid() or not shutil.which("mount"):
            return None
        path.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={ROOMY_BYTES}", "tmpfs", str(path)]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            return None
        return cls(path)

    def leave_room(self, size_bytes: int) -> None:
        """Shrink the file system so that `size_bytes` more can be written."""
        now = os.statvfs(self._path)
        self._resize((now.f_blocks - now.f_bfree) * now.f_frsize + size_bytes)

    def make_room(self) -> None:
        """Give the file system its first size back."""
        self._resize(ROOMY_BYTES)

    def unmount(self, *, keep: bool) -> None:
        """Unmount the file system; with `keep`, move its content to the directory below it."""
        kept = self._path.with_name(self._path.name + "-kept")
        if keep:
            shutil.copytree(self._path, kept)
        give_up_mono = time.monotonic() + UNMOUNT_PATIENCE_S
        # The embedded simulator of a killed run needs a moment to end.
        while subprocess.run(["umount", str(self._path)], stderr=subprocess.DEVNULL, check=False).returncode:
            if time.monotonic() > give_up_mono:
                subprocess.run(["umount", "--lazy", str(self._path)], check=True)
                break
        if keep:
            self._path.rmdir()
            kept.rename(self._path)

    def _resize(self, size_bytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(self._path)], check=True)


class FileLimit:
    """A size limit for the files of a process: a write beyond it fails with EFBIG. Needs Linux, not root."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._limit_bytes: int | None = None

    def leave_room(self, size_bytes: int) -> None:
        """Set the limit to `size_bytes` above the largest JSON lines file of the run."""
        sizes = (path.stat().st_size for path in self._directory.glob("*/*.jsonl"))
        self._limit_bytes = max(sizes, default=0) + size_bytes

    def make_room(self) -> None:
        """Lift the limit for processes that start from now on."""
        self._limit_bytes = None

    def apply_to(self, process: subprocess.Popen[bytes]) -> None:
        """Apply the limit to a process that has just started and has written nothing."""
        if self._limit_bytes is not None:
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (self._limit_bytes, hard))
