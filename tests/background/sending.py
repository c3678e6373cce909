"""POSTs of one row among others: what the service answers to them, and which they were."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from runner.transport.fake import Exchange, Fake, Script
from runner.transport.outcomes import SubmitOutcome
from tests.listed import row_of

NO_KEYS: Mapping[str, object] = {"idempotency_header": None}
QUICK: Mapping[str, object] = {"base_s": 0.1, "cap_s": 1.0}


def posts_of(fake: Fake, row: int) -> list[Exchange]:
    return [post for post in fake.posts if row_of(post.body) == row]


def finished(rows: int) -> str:
    return f"<InFlight 0 taken, 0 announced, 0 sending, 0 outstanding, {rows} of {rows} finished>"


def for_row(row: int, outcome: SubmitOutcome, times: float = math.inf) -> Script:
    """Return a script that answers the first POSTs of one row with an outcome."""
    seen = Counter[int]()

    def answer(post: Exchange) -> SubmitOutcome | None:
        if row_of(post.body) != row or seen[row] >= times:
            return None
        seen[row] += 1
        return outcome

    return Script(submit=answer)
