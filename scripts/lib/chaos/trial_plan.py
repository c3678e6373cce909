"""Plan of one trial: its service, config, rows, and what happens to each process of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from scripts.lib.chaos.input_rows import Row

Mode = Literal["background", "batch"]
Signal = Literal["SIGKILL", "SIGINT", "SIGTERM"]
TearKind = Literal["garbage", "half a line", "cut"]
TornFile = Literal["journal", "results", "metrics"]


class ServiceKind(StrEnum):
    """What sort of service a trial runs against."""

    KEYED = "own process, idempotency keys"
    UNKEYED = "own process, no keys"
    EMBEDDED = "embedded, idempotency keys"
    IGNORED = "own process, keys ignored"
    """Ignores idempotency keys without announcing it; the runner assumes that it honours them."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Moment in the life of one process: after some time, or at some progress made since its start.

    `amount` is in seconds for `time`, and else a share: of the rows without a result (`results`), of the rows
    not yet accepted (`accepted`), of the first few requests or batches to be sent (`intents`). `spooled` is
    the time while the body of a batch lies on the disk, and has no amount.
    """

    event: Literal["time", "results", "accepted", "intents", "spooled"]
    amount: float
    delay_s: float = 0.0
    """Seconds between that event and the moment."""


@dataclass(frozen=True, slots=True)
class Tear:
    """What a power cut does to the end of one file."""

    file: TornFile
    """Name of the file; one of several if several workers have a file of this name."""
    kind: TearKind
    amount: float
    """Share of the last line that is lost or repeated, or of the largest amount of garbage."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A disk that becomes full: only `room_bytes` more can be written."""

    by: Literal["disk", "file limit"]
    """Whether the file system is full, or files may not grow beyond a size."""
    room_bytes: int
    is_repeated: bool
    """Whether the run is started a second time before there is room again."""


@dataclass(frozen=True, slots=True)
class Act:
    """The life of one process: it is killed or meets a full disk, and then files are torn."""

    kill: Moment
    signals: tuple[Signal, ...] = ("SIGKILL",)
    """Signals that end the process, sent one after the other."""
    limit: int | None = None
    """Value of `--limit`."""
    batch: dict[str, Any] = field(default_factory=dict)
    """Changes to the config's section `batch` from this act on."""
    restart: Moment | None = None
    """Moment before the kill at which the service is killed and started again."""
    worker_kill: Moment | None = None
    """Moment before the kill at which one worker is killed, if there are workers."""
    tears: tuple[Tear, ...] = ()
    fill: Fill | None = None
    """Full disk that the process meets instead of the kill."""


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """Everything that one trial does, except for the races that decide the exact moment of a kill."""

    number: int
    mode: Mode
    service: ServiceKind
    transport: str
    config: dict[str, Any]
    """The run's config without `target.base_url`, which is known once the service runs."""
    simulator: dict[str, Any]
    """The config's section `simulator`."""
    rows: tuple[Row, ...]
    input: bytes
    """JSON lines of a `jsonl` source; empty for a synthetic source."""
    acts: tuple[Act, ...]
    workers: tuple[int, ...]
    """`engine.workers` of one process after the other; repeated from the start when used up."""
    last_restart: Moment | None
    """Moment at which the service is restarted while the last process runs to its end."""
    retry_kills: tuple[Moment, ...]
    """Kills of the processes that retry failed rows; empty if the service fails no job."""

    @property
    def fill(self) -> Fill | None:
        """The full disk of this trial, if it has one."""
        return next((act.fill for act in self.acts if act.fill), None)
