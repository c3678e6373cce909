"""The batches that a run would send: the same as those that it then sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.batch.cut import cut
from runner.transport.fake import Behaviour, Fake
from tests.batch.support import config_of, rows_of, run_batches
from tests.listed import Listed, listed

SOURCES = {
    "rows of one size": listed(95),
    "rows of many sizes": listed(60, large={i: 20 + 37 * i % 900 for i in range(60)}),
    "rows too large for any batch": listed(40, large=dict.fromkeys((0, 7, 8, 39), 3000)),
    "ids that the service does not allow": Listed(listed(30).bodies, [f"Row {i}" for i in range(30)]),
    "ids that become equal": Listed(listed(4).bodies, ["Zoë", "zo-d4b1a5f1b0f0f0f0", "UPPER", "upper"]),
}


@pytest.mark.parametrize(
    "batch", [{"max_requests": 20}, {"max_bytes": 1000}, {"max_requests": 7, "max_bytes": 700}]
)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_cut_is_the_one_that_the_run_then_makes(
    tmp_path: Path, source: Listed, batch: dict[str, int]
) -> None:
    found = cut(config_of(batch=batch), source, len(source))
    ended = run_batches(tmp_path, Fake(Behaviour(takes_s=0.0)), source, batch=batch)
    intents = sorted(ended.intents, key=lambda intent: intent.batch)
    assert found.counts == [len(rows_of(intent)) for intent in intents]
    assert found.sizes_bytes == [intent.size_bytes for intent in intents]
    assert found.too_large == ended.statuses.get("rejected", 0)


def test_rows_beyond_the_limit_are_not_counted() -> None:
    assert cut(config_of(batch={"max_requests": 10}), listed(95), 25).counts == [10, 10, 5]


def test_rows_that_are_renamed_for_the_service_are_counted() -> None:
    source = Listed(listed(5).bodies, ["a", "B", "c/d", "e", "_f"])
    assert cut(config_of(), source, 5).renamed == 3


def test_no_rows_make_no_batch() -> None:
    found = cut(config_of(), listed(0), 0)
    assert (found.counts, found.sizes_bytes, found.too_large, found.renamed) == ([], [], 0, 0)
