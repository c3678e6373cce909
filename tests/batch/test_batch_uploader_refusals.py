"""How the uploader takes a refusal: of one request, of a batch, of its size, or of all batches of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from runner.errors import NothingAccepted
from runner.transport.fake import Behaviour, Exchange, Fake, Script, rejected
from runner.transport.outcomes import CreateOutcome
from tests.batch.support import names_in, run_batches
from tests.listed import Listed, listed

AT_ONCE = Behaviour(takes_s=0.0)


class Picky(Fake):
    """A service that rejects a batch for its first bad request: by its position, by its id, or not at all."""

    def __init__(self, bad: Iterable[int], names: str = "position") -> None:
        super().__init__(AT_ONCE, Script(create_batch=self._reject))
        self._bad = {str(row) for row in bad}
        self._names = names

    def _reject(self, exchange: Exchange) -> CreateOutcome | None:
        items = msgspec.json.decode(exchange.body)["requests"]
        bad = next((n for n, item in enumerate(items) if item["params"]["input"] in self._bad), None)
        if bad is None:
            return None
        match self._names:
            case "position":
                return rejected(f"requests[{bad}]: temperature is too high", param=f"requests[{bad}].params")
            case "id":
                return rejected(f"custom_id '{items[bad]['custom_id']}': temperature is too high")
        return rejected("One of the requests is invalid: temperature")


def sizes(fake: Fake) -> list[int]:
    """Return the number of requests in each POST."""
    return [len(names_in(exchange.body)) for exchange in fake.of("create_batch")]


BY = pytest.mark.parametrize("names", ["position", "id"])


@BY
@pytest.mark.parametrize("bad", [[0], [13], [39], [10, 11, 15, 19, 33]])
def test_requests_that_the_service_names_are_rejected_and_all_others_complete(
    tmp_path: Path, bad: list[int], names: str
) -> None:
    fake = Picky(bad, names)
    ended = run_batches(tmp_path, fake, rows=40)
    assert ended.statuses == {"completed": 40 - len(bad), "rejected": len(bad)}
    assert ended.rows("rejected") == set(bad)
    for row in bad:
        result = ended.results[row]
        assert result.error is not None
        assert "temperature" in result.error.message
        assert result.response is not None, "the whole answer is kept"
        assert result.attempts == 1
    # Which batch is refused first is open: each waits for the disk in a thread of its own.
    refused = [f"the service refuses a batch for one of its requests, 'row-{row}': " for row in bad]
    assert ended.said[0].startswith(tuple(refused))
    assert sum(len(batch.jobs) for batch in fake.batches_made) == 40 - len(bad)


@BY
def test_a_rejected_request_is_reported_by_its_own_id(tmp_path: Path, names: str) -> None:
    source = Listed(listed(20).bodies, [f"Zoë {i}" for i in range(20)])
    ended = run_batches(tmp_path, Picky([4], names), source)
    assert ended.statuses == {"completed": 19, "rejected": 1}
    assert ended.results[4].custom_id == "Zoë 4"
    assert ended.has_said("'Zoë 4'")


def test_many_bad_requests_among_good_ones_cost_few_uploads(tmp_path: Path) -> None:
    bad = set(range(3, 200, 5))
    fake = Picky(bad)
    ended = run_batches(tmp_path, fake, rows=200, batch={"max_requests": 100})
    assert ended.rows("rejected") == bad
    assert ended.statuses == {"completed": 200 - len(bad), "rejected": len(bad)}
    assert len(fake.of("create_batch")) <= 5 * len(bad)
    assert len([text for text in ended.said if "refuses a batch" in text]) <= len(fake.batches_made) + 1


@BY
def test_a_run_whose_requests_are_all_bad_stops_soon(tmp_path: Path, names: str) -> None:
    fake = Picky(range(500), names)
    ended = run_batches(tmp_path, fake, rows=500, batch={"max_requests": 100})
    assert isinstance(ended.ended_by, NothingAccepted)
    assert "the first 10 batches were all refused" in str(ended.ended_by)
    assert "start over with --new" in str(ended.ended_by)
    assert len(fake.of("create_batch")) == 10
    assert len(ended.results) == 9


def test_a_first_batch_that_is_refused_as_a_whole_ends_the_run_and_no_row(tmp_path: Path) -> None:
    fake = Picky([5], "nothing")
    ended = run_batches(tmp_path, fake, rows=40)
    assert isinstance(ended.ended_by, NothingAccepted)
    assert "the first batch was refused: One of the requests is invalid" in str(ended.ended_by)
    assert (sizes(fake), ended.results) == ([10], {})
    assert len(ended.retractions) == 1


def test_a_later_batch_that_is_refused_as_a_whole_is_rejected_and_the_others_complete(tmp_path: Path) -> None:
    ended = run_batches(tmp_path, Picky([35], "nothing"), rows=50)
    assert ended.statuses == {"completed": 40, "rejected": 10}
    assert ended.rows("rejected") == set(range(30, 40))


def test_in_a_later_session_a_refusal_concerns_one_batch_as_well(tmp_path: Path) -> None:
    assert run_batches(tmp_path, Picky([]), rows=20).statuses == {"completed": 20}
    ended = run_batches(tmp_path, Picky([20], "nothing"), rows=50)
    assert ended.statuses == {"completed": 40, "rejected": 10}


class Small(Fake):
    """A service that accepts no body larger than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(AT_ONCE, Script(create_batch=self._reject))
        self._max_bytes = max_bytes

    def _reject(self, exchange: Exchange) -> CreateOutcome | None:
        return rejected("Too large.", 413) if len(exchange.body) > self._max_bytes else None


def test_batches_too_large_for_the_service_become_smaller_until_they_fit(tmp_path: Path) -> None:
    fake = Small(400)
    ended = run_batches(tmp_path, fake, rows=60, batch={"max_requests": 60})
    assert ended.statuses == {"completed": 60}
    assert {entry.cause for entry in ended.retractions} == {"413"}
    assert len(ended.retractions) < 10, "no size is tried twice"
    assert ended.said[0].startswith("the service accepts no batch of 2,866 bytes (Too large.): ")
    assert "a lower batch.max_bytes saves the upload" in ended.said[0]


def test_a_row_too_large_for_the_service_is_rejected_alone(tmp_path: Path) -> None:
    ended = run_batches(tmp_path, Small(1500), listed(3, large={1: 2000}))
    assert ended.statuses == {"completed": 2, "rejected": 1}
    assert ended.rows("rejected") == {1}


def test_a_row_larger_than_the_batches_that_a_refusal_left_is_still_sent_alone(tmp_path: Path) -> None:
    fake = Small(800)
    ended = run_batches(tmp_path, fake, listed(10, large={5: 600}), batch={"max_requests": 100})
    assert ended.statuses == {"completed": 10}
    assert 1 in sizes(fake)


def test_a_service_that_refuses_every_size_ends_the_run(tmp_path: Path) -> None:
    ended = run_batches(tmp_path, Small(10), rows=60, batch={"max_requests": 60})
    assert isinstance(ended.ended_by, NothingAccepted)
