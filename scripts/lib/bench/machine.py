"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from scripts.lib.bench.pinned_processes import SERVER_CORES, client_cores

PACKAGES = ("openai", "aiohttp", "uvloop", "msgspec")


def ran_on() -> list[str]:
    """Machine, software and placement, a line each; nothing that names the machine or its user."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    pinned = "client on core {}, simulator and harness on core {}"
    client, server = (", ".join(map(str, sorted(cores))) for cores in (client_cores(), SERVER_CORES))
    return [
        f"{os.cpu_count()} × {_processor()}, {platform.system()} {platform.release()}",
        f"{python}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        pinned.format(client, server) if client else "not pinned: one core, or a system that cannot",
        f"commit {_commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load before {os.getloadavg()[0]:.2f}",
    ]


class Steal:
    """What the hypervisor took from this machine's cores: how far to trust microseconds."""

    def __init__(self) -> None:
        self._before = _ticks()

    def told(self) -> list[str]:
        """A line about it; none where the system does not tell."""
        passed = [after - before for after, before in zip(_ticks(), self._before, strict=True)][:8]
        return (
            [f"stolen from it meanwhile: {passed[7] / max(sum(passed), 1):.1%} of all time"] if passed else []
        )


def _ticks() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal, … of all cores, as proc_stat(5) has it."""
    with suppress(OSError):
        return [int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return []


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    with suppress(OSError):
        return (
            subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
        )
    return "unknown"
