"""Rows that end without a result of the service: what is put on record, and how a refused run ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runner.batch.failed_rows import FailedRows, nothing_accepted
from runner.records import Failure
from runner.transport.fake import rejected
from tests import virtual_time
from tests.batch.support import UNIX
from tests.batch.workbench import Workbench
from tests.listed import Listed, ListedRow, listed

NO = Failure("invalid_request_error", "No.", 400)


def test_a_request_that_fits_into_no_batch_ends_unsent(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Workbench(tmp_path, source=listed(3))
        await asyncio.sleep(4.0)
        request = bench.source.request(ListedRow(1, b""))
        bench.failed_rows.end_unsent(request, Failure("too_large", "Too large."))
        assert bench.in_flight.taken == 1
        await asyncio.sleep(0.0)
        (result,) = bench.results().values()
        assert (result.row, result.custom_id, result.status) == (1, "row-1", "rejected")
        assert result.error == Failure("too_large", "Too large.")
        assert (result.attempts, result.polls, result.epoch, result.response) == (0, 0, 0, None)
        assert (result.timing.due, result.timing.done) == (UNIX + 4.0, UNIX + 4.0)
        assert (result.timing.sent, result.timing.accepted) == (None, None)
        assert (bench.in_flight.taken, bench.in_flight.finished) == (0, 1)

    virtual_time.run(main())


@pytest.mark.parametrize("announced", [True, False])
def test_a_row_of_a_batch_keeps_its_own_id_its_epoch_and_the_times_of_the_batch(
    tmp_path: Path, announced: bool
) -> None:
    async def main() -> None:
        bench = Workbench(tmp_path, source=Listed(listed(3).bodies, ["a", "Zoë", "c"]))
        failed_rows = FailedRows(bench.parts, {1: 2})
        batch = bench.submission(range(3))
        batch.sent, batch.attempts, batch.announced = UNIX + 1.0, 4, announced
        if announced:
            bench.in_flight.announce(3)
        await asyncio.sleep(9.0)
        answer = rejected("No.")
        failed_rows.end(batch, list(batch.names.rows)[1], "rejected", answer.failure, answer.reply)
        await asyncio.sleep(0.0)
        (result,) = bench.results().values()
        assert (result.row, result.custom_id, result.epoch, result.attempts) == (1, "Zoë", 2, 4)
        assert (result.error, result.response) == (answer.failure, answer.reply)
        assert result.timing.due == UNIX
        assert (result.timing.sent, result.timing.done) == (UNIX + 1.0, UNIX + 9.0)
        assert bench.in_flight.taken == 2
        assert bench.in_flight.announced == (2 if announced else 0)

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("status_code", "refusals", "words"),
    [
        (400, 1, "the first batch was refused: No.|start over with --new"),
        (400, 10, "the first 10 batches were all refused: No.|start over with --new"),
        (404, 1, "the first batch was refused: No.|if not, set target.mode: background"),
        (405, 1, "the first batch was refused: No.|does the service have a Batch API?"),
        (413, 10, "the first 10 batches were all refused|lower batch.max_bytes"),
    ],
)
def test_a_run_whose_first_batches_are_refused_says_why_and_what_to_do(
    status_code: int, refusals: int, words: str
) -> None:
    text = str(nothing_accepted(Failure("x", "No.", status_code), refusals))
    assert f"HTTP {status_code}" in text
    for part in words.split("|"):
        assert part in text
