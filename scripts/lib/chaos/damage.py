"""What happens to files: a power cut tears their ends, and a disk has no more room."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from scripts.lib.chaos.trial_plan import Tear

ROOMY_BYTES = 256 << 20
GARBAGE_BYTES = 200
UNMOUNT_PATIENCE_S = 15.0
SYNCED = (b'{"event":"batch",', b'{"event":"reopened",')
"""Begins lines that are on the disk before anything follows from them: a power cut leaves them."""


def tear(path: Path, how: Tear) -> bool:
    """Leave the end of a file as a power cut could; whether there was a file with anything to tear."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    last = content[content.rfind(b"\n", 0, -1) + 1 :]
    if how.how == "cut" and last.startswith(SYNCED):
        return False
    part = 1 + int(how.amount * (len(last) - 1))
    if how.how == "cut":
        if last:
            os.truncate(path, len(content) - part)
        return bool(last)
    garbage = random.Random(how.amount).randbytes(1 + int(how.amount * GARBAGE_BYTES))
    half = last.rstrip(b"\n")[:part] or b'{"custom_id":"row-1","ro'
    with path.open("ab") as file:
        file.write(half if how.how == "half a line" else garbage.replace(b"\n", b"\0"))
    return True


class Tmpfs:
    """A file system of its own over a directory, which can be made to be full; needs to be root."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def mount(cls, path: Path) -> Self | None:
        """None where it cannot be mounted."""
        if os.geteuid() or not shutil.which("mount"):
            return None
        path.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={ROOMY_BYTES}", "tmpfs", str(path)]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            return None
        return cls(path)

    def leave_room(self, size_bytes: int) -> None:
        """For so many bytes more than there are now."""
        now = os.statvfs(self._path)
        self._resize((now.f_blocks - now.f_bfree) * now.f_frsize + size_bytes)

    def make_room(self) -> None:
        self._resize(ROOMY_BYTES)

    def unmount(self, *, keep: bool) -> None:
        """Take it off; with `keep`, what is in it moves to the directory under it."""
        kept = self._path.with_name(self._path.name + "-kept")
        if keep:
            shutil.copytree(self._path, kept)
        give_up = time.monotonic() + UNMOUNT_PATIENCE_S
        # The embedded simulator of a killed run needs a moment to end.
        while subprocess.run(["umount", str(self._path)], stderr=subprocess.DEVNULL, check=False).returncode:
            if time.monotonic() > give_up:
                subprocess.run(["umount", "--lazy", str(self._path)], check=True)
                break
        if keep:
            self._path.rmdir()
            kept.rename(self._path)

    def _resize(self, size_bytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(self._path)], check=True)


class FileLimit:
    """No file of a process may grow beyond a size: a write fails with EFBIG. Needs Linux, but no rights."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._most_bytes: int | None = None

    def leave_room(self, size_bytes: int) -> None:
        """For so many bytes more than the largest file has now."""
        sizes = (path.stat().st_size for path in self._directory.glob("*/*.jsonl"))
        self._most_bytes = max(sizes, default=0) + size_bytes

    def make_room(self) -> None:
        self._most_bytes = None

    def apply_to(self, process: subprocess.Popen[bytes]) -> None:
        """To a process that was just started, and has not written yet."""
        if self._most_bytes is not None:
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (self._most_bytes, hard))
