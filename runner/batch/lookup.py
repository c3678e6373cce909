"""Looks up, by its label in the list of the service, a batch whose acknowledgement was lost."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import msgspec

from runner.batch.submission import BatchSubmission
from runner.records import Failure
from runner.transport import Transport
from runner.transport.outcomes import Listing, ListOutcome, Throttled, Transient, Unauthorised, Unsupported

PAGE: Final = 200
"""Most batches that the service lists on one page."""
CLOCK_SKEW_S: Final = 300.0
"""Seconds by which the clock of the service may be behind: a batch may seem that much older than its POST."""


class Sight(Enum):
    """Results of a lookup that did not find the batch."""

    ABSENT = auto()
    """All batches since its first POST were listed, and the batch is not among them."""
    INCONCLUSIVE = auto()
    """A listed batch may be it: one without a label, and with as many requests as far as is reported."""
    IMPOSSIBLE = auto()
    """The service does not list its batches."""


class Found(msgspec.Struct, frozen=True):
    """The service has the batch."""

    id: str
    created: float | None
    """Creation time in Unix seconds of the service's clock; None if it is not reported."""


LookupOutcome = Found | Sight | Throttled | Transient | Unauthorised


async def look_up(transport: Transport, batch: BatchSubmission) -> LookupOutcome:
    """Read the list of the service, newest batch first, back to the time before the first POST of `batch`."""
    since = (batch.sent or batch.due) - CLOCK_SKEW_S
    before: str | None = None
    seen: set[str] = set()
    is_inconclusive = False
    while True:
        outcome: ListOutcome = await transport.list_batches(before, PAGE)
        if isinstance(outcome, Unsupported):
            return Sight.IMPOSSIBLE
        if not isinstance(outcome, Listing):
            return outcome
        for entry in outcome.batches:
            if entry.label is not None and entry.label.lower() == batch.label.lower():
                return Found(entry.id, entry.created_at)
            is_like = entry.label is None and entry.count in (None, batch.count)
            is_recent = entry.created_at is None or entry.created_at >= since
            is_inconclusive = is_inconclusive or (is_like and is_recent)
        new = [entry for entry in outcome.batches if entry.id not in seen]
        times = [entry.created_at for entry in outcome.batches if entry.created_at is not None]
        # A service without pages repeats itself; a list without times is read to the end.
        if not new or (times and max(times) < since):
            return Sight.INCONCLUSIVE if is_inconclusive else Sight.ABSENT
        seen.update(entry.id for entry in new)
        before = outcome.batches[-1].id


NOT_FOUND: Final = Failure(
    type="uncertain",
    message=(
        "its batch was sent once without an acknowledgement, cannot be found by its label, "
        "and sending it again could be paid for twice"
    ),
)
