"""The error tree: what a run can end with other than results.

    RunnerError                     carries the exit code that the command ends with
    ├── Invalid              2      config or input is wrong; nothing was sent
    │   ├── ConfigError             the YAML, an override, an environment variable
    │   ├── InputError              a row of the input
    │   └── RunDirError             the run directory is another's, changed, or locked
    ├── StoppedEarly         3      the run can be continued by the same command
    │   ├── KeyRefused              401, 402, 403: no row can succeed
    │   ├── EndpointUnreachable     nobody answers at `target.base_url`, or not a Responses API
    │   ├── NothingAccepted         the first requests were all rejected
    │   ├── LimitReached            one of `limits`
    │   ├── OutOfFiles              the process or the system has no more file descriptors
    │   └── StorageError            the run directory can no longer be written
    └── Interrupted    128 + n      SIGINT or SIGTERM

What fails for one request is not an error but a `Result`; see `records.py`.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what happened, where, and what to do next."""

    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.what}{advice}"


class RunnerError(Exception):
    """Base of all; `str()` is what the user reads, one problem a line."""

    exit_code = 1

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem(p) for p in problems)
        super().__init__("\n".join(map(str, self.problems)))


class Invalid(RunnerError):
    """Config or input is wrong, and nothing was sent."""

    exit_code = 2


class ConfigError(Invalid):
    """The config file, a `--set` override or an environment variable is wrong."""


class InputError(Invalid):
    """A row of the input is wrong."""


class RunDirError(Invalid):
    """The run directory belongs to another run, or to another process."""


class StoppedEarly(RunnerError):
    """The run stopped before its end; the same command continues it."""

    exit_code = 3


class KeyRefused(StoppedEarly):
    """The service refuses the API key or the account behind it."""


class EndpointUnreachable(StoppedEarly):
    """Nobody answers at the address, or what answers is not a Responses API."""


class NothingAccepted(StoppedEarly):
    """The service rejected one request after the other before it ever took one."""


class LimitReached(StoppedEarly):
    """One of `limits` was reached: nothing more is sent."""


class OutOfFiles(StoppedEarly):
    """No more connections can be opened, because no more files can."""


class StorageError(StoppedEarly):
    """The run directory cannot be written: results would be lost, so nothing more is fetched."""


class Interrupted(RunnerError):
    """A signal ended the run; `signum` is which."""

    def __init__(self, signum: int) -> None:
        self.name = signal.Signals(signum).name
        self.exit_code = 128 + signum
        super().__init__(f"interrupted by {self.name}")
