"""Batches of the fake transport, in virtual time."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from runner.errors import StorageError
from runner.transport import Upload
from runner.transport.fake import (
    LOST,
    Behaviour,
    Fake,
    Script,
    done,
    transient,
)
from runner.transport.outcomes import (
    PENDING,
    AnyOutcome,
    BatchEntry,
    Created,
    CreateOutcome,
    Gone,
    Listing,
    Statuses,
    Unsupported,
)
from tests import virtual_time


def upload(folder: Path, *custom_ids: str, label: str | None = "run-1") -> Upload:
    """Return a batch with these requests, in a file."""
    requests = [{"custom_id": it, "params": {"input": it}} for it in custom_ids]
    body = json.dumps({"endpoint": "/v1/responses", "label": label, "requests": requests}).encode()
    path = folder / "batch.json"
    path.write_bytes(body + b"more that is not part of it")
    return Upload(path, len(body))


async def created(fake: Fake, content: Upload, key: str = "") -> str:
    outcome = await fake.create_batch(content, key or f"key-{len(fake.of('create_batch')) + 1}")
    assert isinstance(outcome, Created)
    return outcome.id


def test_a_batch_has_the_statuses_and_the_results_of_its_requests(tmp_path: Path) -> None:
    behaviour = Behaviour(
        takes_s=lambda job: 5.0 * job.number, ends=lambda job: "expired" if job.number == 2 else "completed"
    )

    async def main() -> None:
        fake = Fake(behaviour)
        batch_id = await created(fake, upload(tmp_path, "row-0", "row-1"))
        assert fake.batches_made[0].jobs["row-1"].body == b'{"input": "row-1"}'
        await asyncio.sleep(5.0)
        statuses = await fake.retrieve_batch(batch_id)
        assert isinstance(statuses, Statuses)
        assert (
            bytes(statuses.status_map) == b'{"row-0":{"status":"completed"},"row-1":{"status":"in_progress"}}'
        )
        assert await fake.batch_result(batch_id, "row-0") == done("batch-1-row-0")
        assert await fake.batch_result(batch_id, "row-1") is PENDING
        assert isinstance(await fake.batch_result(batch_id, "row-2"), Gone)
        await asyncio.sleep(5.0)
        assert await fake.batch_result(batch_id, "row-1") == done("batch-1-row-1", "expired")
        assert (fake.most_in_flight, fake.service.in_flight.now) == (2, 0)
        fake.service.batches[batch_id].is_lost = True
        assert isinstance(await fake.retrieve_batch(batch_id), Gone)
        assert isinstance(await fake.batch_result(batch_id, "row-0"), Gone)

    virtual_time.run(main())


def test_batches_are_listed_the_newest_first_in_pages(tmp_path: Path) -> None:
    async def main() -> None:
        fake = Fake(Behaviour(unix=lambda mono: 1000.0 + mono, listed_after_s=1.0))
        for label in ("a", "b", None):
            await created(fake, upload(tmp_path, "row-0", label=label))
            await asyncio.sleep(1.0)
        first, second, third = (
            BatchEntry(f"batch-{i + 1}", label, 1000.0 + i, 1) for i, label in enumerate(("a", "b", None))
        )
        assert await fake.list_batches(None, 2) == Listing((third, second))
        assert await fake.list_batches("batch-2", 2) == Listing((first,))
        assert await fake.list_batches("batch-1", 2) == Listing(())
        await created(fake, upload(tmp_path, "row-0"))
        assert await fake.list_batches(None, 1) == Listing((third,))

    virtual_time.run(main())


def test_a_service_may_list_batches_without_labels_or_not_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        fake = Fake(Behaviour(lists_labels=False))
        await created(fake, upload(tmp_path, "row-0"))
        assert await fake.list_batches(None, 1) == Listing((BatchEntry("batch-1", None, 0.0, 1),))
        assert isinstance(await Fake(Behaviour(lists_batches=False)).list_batches(None, 1), Unsupported)

    virtual_time.run(main())


@pytest.mark.parametrize("honours_keys", [True, False])
def test_a_batch_whose_acknowledgement_was_lost_is_found_by_its_key(
    tmp_path: Path, honours_keys: bool
) -> None:
    content = upload(tmp_path, "row-0")

    async def main() -> None:
        fake = Fake(Behaviour(honours_keys=honours_keys), Script(create_batch={1: LOST}))
        assert await fake.create_batch(content, "key") == transient("reset", ambiguous=True)
        assert await created(fake, content, "key") == ("batch-1" if honours_keys else "batch-2")

    virtual_time.run(main())


def test_a_batch_whose_file_is_missing_or_too_short_stops_the_run(tmp_path: Path) -> None:
    async def main() -> CreateOutcome:
        return await Fake().create_batch(Upload(tmp_path / "batch.json", 10), "key")

    with pytest.raises(StorageError, match=r"batch\.json: the batch cannot be read: No such file"):
        virtual_time.run(main())
    (tmp_path / "batch.json").write_bytes(b"{}")
    with pytest.raises(StorageError, match="shorter than the 10 bytes"):
        virtual_time.run(main())


def test_every_verb_can_be_made_to_fail(tmp_path: Path) -> None:
    down = transient("503")
    script = Script(
        cancel={1: down},
        create_batch={1: down},
        retrieve_batch={1: down},
        batch_result={1: down},
        list_batches={1: down},
    )
    content = upload(tmp_path, "row-0")
    calls: list[Callable[[Fake], Awaitable[AnyOutcome]]] = [
        lambda fake: fake.cancel("job-1"),
        lambda fake: fake.create_batch(content, "key"),
        lambda fake: fake.retrieve_batch("batch-1"),
        lambda fake: fake.batch_result("batch-1", "row-0"),
        lambda fake: fake.list_batches(None, 1),
    ]

    async def main() -> None:
        fake = Fake(script=script)
        assert [await call(fake) for call in calls] == [down] * 5
        assert down not in [await call(fake) for call in calls]
        assert [it.verb for it in fake.exchanges[:5]] == [
            "cancel",
            "create_batch",
            "retrieve_batch",
            "batch_result",
            "list_batches",
        ]
        assert (fake.of("batch_result")[0].id, fake.of("batch_result")[0].custom_id) == ("batch-1", "row-0")
        await fake.close()
        assert fake.is_closed

    virtual_time.run(main())
