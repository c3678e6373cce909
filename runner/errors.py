"""The error tree: what ends a run before all rows have results.

    RunnerError                     base class, with the exit code of the command
    ├── Invalid              2      config or input is wrong; nothing was sent
    │   ├── ConfigError             the YAML, an override, an environment variable
    │   ├── InputError              a row of the input
    │   └── RunDirError             the run directory is of another run, changed, or locked
    ├── StoppedEarly         3      the same command continues the run
    │   ├── KeyRefused              401, 402, 403: no row can succeed
    │   ├── EndpointUnreachable     no service at `target.base_url`, or not a Responses API
    │   ├── NothingAccepted         the first requests were all rejected
    │   ├── LimitReached            one of `limits` was reached
    │   ├── OutOfFiles              the process or the system has too many open files
    │   └── StorageError            the run directory cannot be written or read any more
    └── Interrupted    128 + n      SIGINT or SIGTERM

The failure of one request is not an error but a `Result`; see `records.py`.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem for a user to read: what happened, where, and what to do next (`hint`)."""

    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.what}{advice}"


class RunnerError(Exception):
    """Base class of all errors; `str()` is the text for the user, one problem a line."""

    exit_code = 1

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem(p) for p in problems)
        super().__init__("\n".join(map(str, self.problems)))


class Invalid(RunnerError):
    """The config or the input is wrong; nothing was sent."""

    exit_code = 2


class ConfigError(Invalid):
    """The config file, a `--set` override or an environment variable is wrong."""


class InputError(Invalid):
    """A row of the input is wrong."""


class RunDirError(Invalid):
    """The run directory belongs to another run, or to another process."""


class StoppedEarly(RunnerError):
    """The run was stopped before its end; the same command continues it."""

    exit_code = 3


class KeyRefused(StoppedEarly):
    """The service refuses the API key or the account behind it."""


class EndpointUnreachable(StoppedEarly):
    """No service answers at `target.base_url`, or it has no Responses API."""


class NothingAccepted(StoppedEarly):
    """The service rejected the first requests, all of them, before it accepted one."""


class LimitReached(StoppedEarly):
    """One of `limits` was reached; nothing more is sent."""


class OutOfFiles(StoppedEarly):
    """The process or the system has too many open files to open another connection."""


class StorageError(StoppedEarly):
    """The run directory cannot be written or read; nothing more is fetched, because results would be lost."""


class Interrupted(RunnerError):
    """The signal `signum` ended the run."""

    def __init__(self, signum: int) -> None:
        self.name = signal.Signals(signum).name
        self.exit_code = 128 + signum
        super().__init__(f"interrupted by {self.name}")
