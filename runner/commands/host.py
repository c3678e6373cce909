"""Prepares the process of a command for a run: the limit of open files, and the garbage collector."""

from __future__ import annotations

import gc
import resource
from typing import Final

from runner.config import RunConfig
from runner.errors import ConfigError, Problem

FILES_BESIDE_CONNECTIONS: Final = 64
"""Open files for logs, the event loop, the input, a simulator's pipes, and some to spare."""
GC_THRESHOLD: Final = 50_000
"""Allocations between two collections: a run makes few cycles, and the default searches too often."""


def raise_open_file_limit(config: RunConfig) -> None:
    """Raise the limit of open files to what the config needs. Raises `ConfigError` if it must not be."""
    needed = config.posts_at_once + config.poll.concurrency + FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):  # above the hard limit, or above what the system allows at all
        raise ConfigError(
            Problem(
                f"need {needed:,} open files, but this process may open only {max(soft, hard):,}",
                "submit.concurrency and poll.concurrency",
                "lower them, or raise the hard limit (ulimit -Hn)",
            )
        ) from None


def tune_gc() -> None:
    """Keep what exists now for good, and collect garbage rarely: a run makes few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
