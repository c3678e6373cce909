"""`runner batches`: the batches of the service, the newest first, before a service in memory."""

from __future__ import annotations

import math
import signal
import time

import msgspec
import pytest

from runner.batch.lookup import PAGE
from runner.commands.list_batches import TRIES
from runner.errors import EndpointUnreachable, Interrupted, KeyRefused, StoppedEarly
from runner.transport.fake import Fake, Script, throttled, transient, unauthorised
from runner.transport.outcomes import BatchEntry, Listing, Statuses
from tests.commands.here import Here, interrupted_when


def rows_of(table: str) -> list[list[str]]:
    """Return the cells of a table, without the line below its head."""
    lines = [line for line in table.splitlines() if not set(line) <= set("|-: ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def listing(here: Here, *entries: BatchEntry) -> None:
    here.serve(Script(list_batches={1: Listing(entries)}))


def entry(
    number: int, label: str | None = "t", age_s: float | None = 40.0, count: int | None = 3
) -> BatchEntry:
    return BatchEntry(f"batch-{number}", label, None if age_s is None else time.time() - age_s, count)


def run_in_batches(here: Here) -> None:
    """Send 25 rows in three batches, one after the other."""
    batch = {"max_requests": 10, "concurrency": 1}
    here.run(here.config(source={"count": 25}, target={"mode": "batch"}, batch=batch))


def test_batches_of_this_run_are_marked(here: Here) -> None:
    here.serve(unix=lambda _: time.time() - 200)
    run_in_batches(here)
    here.fake.service.create_batch(b'{"requests": [], "label": "of somebody"}', "key", 0.0)
    result = here.list_batches()

    head, *rows = rows_of(result.output)
    assert head == ["batch", "label", "age", "requests"]
    assert [row[0] for row in rows] == ["batch-4", "batch-3", "batch-2", "batch-1"]
    assert [row[1].endswith("(this run)") for row in rows] == [False, True, True, True]
    assert rows[0][1] == "of somebody"
    assert {row[2] for row in rows} == {"3 min"}
    assert [row[3] for row in rows] == ["0", "5", "10", "10"]
    assert (result.exit_code, result.messages) == (0, ())


def test_with_status_the_progress_of_each_is_shown(here: Here) -> None:
    here.serve(ends=lambda job: "failed" if job.number == 1 else "completed")
    run_in_batches(here)
    head, *rows = rows_of(here.list_batches(with_status=True).output)
    assert head[-1] == "progress"
    assert [row[-1] for row in rows] == ["5 completed", "10 completed", "9 completed, 1 failed"]


def test_a_batch_that_is_forgotten_or_cannot_be_read_has_no_progress(here: Here) -> None:
    here.serve(Script(retrieve_batch={1: Statuses(msgspec.Raw(b'"what is this?"'))}))
    for number in (1, 2):
        here.fake.service.create_batch(b'{"requests": []}', f"key-{number}", 0.0)
    here.fake.service.batches["batch-1"].is_lost = True
    rows = rows_of(here.list_batches(with_status=True).output)[1:]
    assert rows[0][-1].startswith("unreadable: ")
    assert rows[1][-1] == "no longer known"


@pytest.mark.parametrize(
    ("age_s", "said"),
    [
        (0.4, "0 s"),
        (-5.0, "0 s"),
        (40.0, "40 s"),
        (200.0, "3 min"),
        (2 * 3600 + 330.0, "2 h 5 min"),
        (3 * 86_400 + 4 * 3600 + 50, "3 d 4 h"),
        (None, "–"),
    ],
)
def test_ages_are_given_as_people_say_them(here: Here, age_s: float | None, said: str) -> None:
    listing(here, entry(1, age_s=age_s))
    assert rows_of(here.list_batches(most=1).output)[1][2] == said


def test_what_the_service_does_not_say_is_a_dash(here: Here) -> None:
    listing(here, entry(1, label=None, age_s=None, count=None))
    assert rows_of(here.list_batches(most=1).output)[1] == ["batch-1", "–", "–", "–"]


def test_pages_are_asked_for_until_there_are_enough_or_no_new_ones(here: Here) -> None:
    for number in range(PAGE + 30):
        here.fake.service.create_batch(b'{"requests": []}', f"key-{number}", 0.0)
    assert len(rows_of(here.list_batches(most=PAGE + 7).output)) == 1 + PAGE + 7
    assert len(here.fake.of("list_batches")) == 2
    assert len(rows_of(here.list_batches(most=500).output)) == 1 + PAGE + 30


def test_a_service_without_batches_says_so(here: Here) -> None:
    assert here.list_batches().output == "the service has no batches"


def test_a_service_that_lists_none_is_an_error(here: Here) -> None:
    here.serve(lists_batches=False)
    with pytest.raises(StoppedEarly, match="http://service/v1: the service lists no batches: Not found"):
        here.list_batches()
    assert here.fake.is_closed


def test_a_refused_key_is_an_error_that_names_its_variable(here: Here) -> None:
    here.serve(Script(list_batches={1: unauthorised()}))
    with pytest.raises(KeyRefused, match="check the key in SAIL_API_KEY"):
        here.list_batches()


def test_failures_are_retried_a_few_times(here: Here) -> None:
    here.serve(Script(list_batches={1: transient("502"), 2: throttled(wait_s=0.01), 3: transient("reset")}))
    assert here.list_batches().output == "the service has no batches"
    assert len(here.fake.of("list_batches")) == 4
    here.serve(Script(list_batches=lambda _: transient("502")))
    with pytest.raises(EndpointUnreachable, match="no Batch API answers there"):
        here.list_batches()
    assert len(here.fake.of("list_batches")) == TRIES


def test_a_signal_ends_it(here: Here) -> None:
    here.fake = Fake(latency_s=math.inf)
    with interrupted_when(lambda: bool(here.fake.exchanges)), pytest.raises(Interrupted) as caught:
        here.list_batches()
    assert caught.value.exit_code == 128 + signal.SIGINT
    assert here.fake.is_closed
