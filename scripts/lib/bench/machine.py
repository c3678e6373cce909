"""Describes the machine on which a benchmark runs, and how much of it others took meanwhile."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from scripts.lib.bench.checkout import HERE, Checkout
from scripts.lib.bench.pinned_processes import SERVER_CORES, client_cores


def describe_machine(other: Checkout | None = None) -> list[str]:
    """Return lines about machine, software and placement; none names the machine or its user.

    With another checkout, also returns its commit and software, and a warning if that differs.
    """
    pinned = "client on core {}, simulator and harness on core {}"
    client, server = (", ".join(map(str, sorted(cores))) for cores in (client_cores(), SERVER_CORES))
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load before {os.getloadavg()[0]:.2f}"
    lines = [
        f"{os.cpu_count()} × {_processor()}, {platform.system()} {platform.release()}",
        HERE.software(),
        pinned.format(client, server) if client else "not pinned: one core, or a system that cannot pin",
        f"commit {HERE.commit()}, {now}",
    ]
    if other:
        lines.append(f"against commit {other.commit()}, {other.software()}")
        if other.software() != HERE.software():
            lines.append("NOT COMPARABLE: Python or packages differ between the two checkouts")
    return lines


class StealMeter:
    """Measures the CPU time that the hypervisor gave to other machines: it makes figures less reliable."""

    def __init__(self) -> None:
        self._before = _ticks()

    def describe(self) -> list[str]:
        """Return a line about the time since the meter was made; none if the system does not report it."""
        passed = [after - before for after, before in zip(_ticks(), self._before, strict=True)][:8]
        return [f"CPU time stolen meanwhile: {passed[7] / max(sum(passed), 1):.1%}"] if passed else []


def _ticks() -> list[int]:
    """Return user, nice, system, idle, iowait, irq, softirq, steal, … of all cores, as in proc_stat(5)."""
    with suppress(OSError):
        return [int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return []


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
