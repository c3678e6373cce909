"""Is a batch at the service whose acknowledgement was lost? Its label tells."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import msgspec

from runner.batch.submission import Draft
from runner.records import Failure
from runner.transport import Transport
from runner.transport.outcomes import Listing, ListOutcome, Throttled, Transient, Unauthorised, Unsupported

PAGE: Final = 200
"""The most that the service lists at once."""
CLOCK_SKEW_S: Final = 300.0
"""A batch that the service calls so much older than its POST may still be ours."""


class Sight(Enum):
    """What a search can end with, beside the id of the batch."""

    ABSENT = auto()
    """All batches since its first POST were looked through."""
    BLURRED = auto()
    """There is one that may be it: listed without a label, and as large as far as is told."""
    IMPOSSIBLE = auto()
    """The service does not list its batches."""


class Found(msgspec.Struct, frozen=True):
    """The service has it."""

    id: str
    at: float | None
    """When it was made, in Unix seconds of the service's clock."""


Search = Found | Sight | Throttled | Transient | Unauthorised


async def find(transport: Transport, draft: Draft) -> Search:
    """Go back through the service's list, the newest first, to the time before the first POST."""
    since = (draft.sent or draft.due) - CLOCK_SKEW_S
    before: str | None = None
    seen: set[str] = set()
    is_blurred = False
    while True:
        outcome: ListOutcome = await transport.list_batches(before, PAGE)
        if isinstance(outcome, Unsupported):
            return Sight.IMPOSSIBLE
        if not isinstance(outcome, Listing):
            return outcome
        for entry in outcome.batches:
            if entry.label is not None and entry.label.lower() == draft.label.lower():
                return Found(entry.id, entry.created_at)
            is_like = entry.label is None and entry.count in (None, draft.count)
            is_recent = entry.created_at is None or entry.created_at >= since
            is_blurred = is_blurred or (is_like and is_recent)
        new = [entry for entry in outcome.batches if entry.id not in seen]
        times = [entry.created_at for entry in outcome.batches if entry.created_at is not None]
        # A service that knows no pages says the same again; one that says no times is read to the end.
        if not new or (times and max(times) < since):
            return Sight.BLURRED if is_blurred else Sight.ABSENT
        seen.update(entry.id for entry in new)
        before = outcome.batches[-1].id


NOT_FOUND: Final = Failure(
    type="uncertain",
    message=(
        "its batch was sent once without an acknowledgement, cannot be found by its label, "
        "and sending it again could be paid for twice"
    ),
)
