"""A body streamed from a file: sent exactly, in little memory, and no further once an answer has come."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from runner.errors import StorageError
from runner.transport import Transport, Upload
from runner.transport.outcomes import (
    Accepted,
    Created,
    CreateOutcome,
    Rejected,
    SubmitOutcome,
    Transient,
    Unauthorised,
)
from runner.transport.uploads import PIECE_BYTES
from tests.transport.scripted import After, Received, Service, Step, as_json, job
from tests.transport.talking import API_KEY, SHORT_S, Ask, Talk

LARGE = bytes(20_000_000)
MEGABYTES = 32
CREATED = {"id": "batch_1", "request_counts": 3, "created_at": 1_750_000_000}
ERROR = {"error": {"message": "No.", "type": "some_error", "param": "requests[3].params", "code": None}}


@pytest.mark.parametrize(
    "size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 7 * PIECE_BYTES + 12_345]
)
def test_exactly_the_bytes_of_the_file_are_sent(
    talk: Talk, upload: Callable[[bytes], Upload], size: int
) -> None:
    body = random.Random(size).randbytes(size)

    async def conversation(transport: Transport, service: Service) -> tuple[CreateOutcome, list[Received]]:
        return await transport.create_batch(upload(body), "key-1"), service.received

    outcome, (request,) = talk(conversation, as_json(CREATED))
    assert outcome == Created(id="batch_1", count=3)
    assert request.body == body
    assert request.header("Content-Length") == str(size)
    assert request.header("Transfer-Encoding") is None
    assert request.header("Content-Encoding") is None


def test_an_upload_is_a_post_of_json_to_batches_with_both_keys(
    talk: Talk, upload: Callable[[bytes], Upload]
) -> None:
    async def conversation(transport: Transport, service: Service) -> list[Received]:
        await transport.create_batch(upload(b"{}"), "key-1")
        return service.received

    (request,) = talk(conversation, as_json(CREATED), path="/gateway/v1")
    assert (request.method, request.target) == ("POST", "/gateway/v1/batches")
    assert request.header("Authorization") == f"Bearer {API_KEY}"
    assert request.header("Idempotency-Key") == "key-1"
    assert request.header("Content-Type") == "application/json"
    assert request.header("Accept") == "application/json"


@pytest.mark.parametrize("header", ["X-Request-Token", None])
def test_the_idempotency_key_is_sent_in_the_header_that_the_config_names_or_not_at_all(
    talk: Talk, upload: Callable[[bytes], Upload], header: str | None
) -> None:
    async def conversation(transport: Transport, service: Service) -> list[Received]:
        await transport.create_batch(upload(b"{}"), "key-1")
        return service.received

    (request,) = talk(conversation, as_json(CREATED), idempotency_header=header)
    assert request.header("Idempotency-Key") is None
    assert request.header("X-Request-Token") == ("key-1" if header else None)


def test_only_the_first_bytes_of_a_longer_file_are_sent(
    talk: Talk, upload: Callable[[bytes], Upload]
) -> None:
    async def conversation(transport: Transport, service: Service) -> list[Received]:
        whole = upload(b"0123456789")
        await transport.create_batch(Upload(whole.path, 4), "key-1")
        return service.received

    (request,) = talk(conversation, as_json(CREATED))
    assert request.body == b"0123"


@pytest.mark.parametrize("count", [1, 3])
def test_uploads_and_other_exchanges_share_connections(
    talk: Talk, upload: Callable[[bytes], Upload], count: int
) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[int, int]:
        content = upload(bytes(PIECE_BYTES * 2))
        for _ in range(count):
            await transport.create_batch(content, "key-1")
            await transport.submit(b"{}", "key-1")
        return len(service.received), service.connections

    assert talk(conversation, as_json(CREATED)) == (2 * count, 1)


@pytest.mark.parametrize("after", ["close", "hang", "stall"])
@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorised), (413, Rejected), (400, Rejected)])
def test_an_answer_before_the_end_of_the_body_is_the_outcome(
    talk: Talk,
    upload: Callable[[bytes], Upload],
    status: int,
    kind: type[Unauthorised | Rejected],
    after: After,
) -> None:
    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[CreateOutcome, SubmitOutcome, int]:
        content = upload(LARGE)
        refused = await transport.create_batch(content, "key-1")
        service.steps = (job("queued", 202),)
        return refused, await transport.submit(b"{}", "key-1"), service.connections

    refused, later, connections = talk(conversation, as_json(ERROR, status, early=True, after=after))
    assert isinstance(refused, kind)
    assert (refused.failure.message, refused.failure.status_code) == ("No.", status)
    assert (later, connections) == (Accepted(id="resp_1"), 2), "a connection with half a body on it was used"


def sockets() -> int:
    """Count the open sockets of this process."""
    count = 0
    for file in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # the descriptor by which the folder itself was read
            count += str(file.readlink()).startswith("socket:")
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="counts sockets in /proc")
def test_the_connection_of_an_abandoned_upload_is_closed_although_it_has_unsent_bytes(
    talk: Talk, upload: Callable[[bytes], Upload]
) -> None:
    if talk.name == "openai":
        pytest.skip("the SDK's own client keeps it until the service reads or the client is closed")

    async def conversation(transport: Transport, service: Service) -> tuple[int, int]:
        before = sockets()
        await transport.create_batch(upload(LARGE), "key-1")
        await asyncio.sleep(0.05)  # the time for a loop to close what was aborted
        return before, sockets()

    before, after = talk(conversation, Step(early=True, after="stall"), upload_s=SHORT_S)
    assert after == before + 1, "only the socket of the service, which does not read, is left"


def test_an_acceptance_before_the_end_of_the_body_counts(
    talk: Talk, upload: Callable[[bytes], Upload]
) -> None:
    async def conversation(transport: Transport, service: Service) -> CreateOutcome:
        return await transport.create_batch(upload(LARGE), "key-1")

    step = as_json(CREATED, early=True, after="stall")
    assert talk(conversation, step) == Created(id="batch_1", count=3)


def test_a_service_that_answers_100_continue_gets_the_whole_body(
    talk: Talk, upload: Callable[[bytes], Upload]
) -> None:
    body = random.Random(1).randbytes(PIECE_BYTES * 3)

    async def conversation(transport: Transport, service: Service) -> tuple[CreateOutcome, list[Received]]:
        return await transport.create_batch(upload(body), "key-1"), service.received

    answer = as_json(CREATED).data
    step = Step(b"HTTP/1.1 100 Continue\r\n\r\n" + answer)
    outcome, (request,) = talk(conversation, step)
    assert isinstance(outcome, Created)
    assert request.body == body


@pytest.mark.parametrize("after", ["close", "reset"])
def test_a_connection_that_is_lost_during_an_upload_leaves_it_in_doubt(
    talk: Talk, upload: Callable[[bytes], Upload], after: After
) -> None:
    async def conversation(transport: Transport, service: Service) -> CreateOutcome:
        return await transport.create_batch(upload(LARGE), "key-1")

    outcome = talk(conversation, Step(early=True, after=after))
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous) == ("reset", True)


@pytest.mark.parametrize("early", [False, True])
def test_an_upload_has_a_deadline_of_its_own(
    talk: Talk, upload: Callable[[bytes], Upload], early: bool
) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[CreateOutcome, SubmitOutcome]:
        outcome = await transport.create_batch(upload(LARGE), "key-1")
        service.steps = (job("queued", 202),)
        return outcome, await transport.submit(b"{}", "key-1")

    step = Step(early=early, after="stall")
    outcome, later = talk(conversation, step, upload_s=SHORT_S)
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous) == ("timeout", True)
    assert f"{SHORT_S} s (batch.timeout_s)" in outcome.failure.message
    assert later == Accepted(id="resp_1")


def test_an_upload_may_take_longer_than_another_exchange(
    talk: Talk, upload: Callable[[bytes], Upload]
) -> None:
    async def conversation(transport: Transport, service: Service) -> CreateOutcome:
        answer = asyncio.Event()
        asyncio.get_running_loop().call_later(3 * SHORT_S, answer.set)
        service.steps = (as_json(CREATED, gate=answer),)
        return await transport.create_batch(upload(b"{}"), "key-1")

    assert isinstance(talk(conversation, timeout_s=SHORT_S), Created)


def test_an_upload_is_not_in_doubt_where_nobody_listens(ask: Ask, dead_port: int) -> None:
    outcome = ask.expect(Transient, "CREATE", base_url=f"http://127.0.0.1:{dead_port}/v1")
    assert (outcome.cause, outcome.ambiguous) == ("connect", False)


def test_the_transport_works_after_a_cancelled_upload(talk: Talk, upload: Callable[[bytes], Upload]) -> None:
    async def conversation(transport: Transport, service: Service) -> SubmitOutcome:
        asked = asyncio.Event()
        service.on_request = asked.set
        task = asyncio.create_task(transport.create_batch(upload(LARGE), "key-1"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        service.steps = (job("queued", 202),)
        return await transport.submit(b"{}", "key-1")

    assert talk(conversation, Step(early=True, after="stall")) == Accepted(id="resp_1")


def missing(path: Path) -> Upload:
    return Upload(path / "nothing", 10)


def a_directory(path: Path) -> Upload:
    return Upload(path, 10)


def cut(path: Path) -> Upload:
    file = path / "cut"
    file.write_bytes(bytes(PIECE_BYTES + 1))
    return Upload(file, 2 * PIECE_BYTES)


@pytest.mark.parametrize("make", [missing, a_directory, cut])
def test_a_file_that_cannot_be_read_is_a_storage_error(
    talk: Talk, tmp_path: Path, make: Callable[[Path], Upload]
) -> None:
    async def conversation(transport: Transport, service: Service) -> SubmitOutcome:
        content = make(tmp_path)
        with pytest.raises(StorageError) as caught:
            await transport.create_batch(content, "key-1")
        assert str(content.path) in str(caught.value)
        return await transport.submit(b"{}", "key-1")

    assert talk(conversation, job("queued", 202)) == Accepted(id="resp_1")


MEASURE = """
import asyncio, sys
from collections import Counter
from pathlib import Path
import uvloop
from runner.config import RunConfig
from runner.measure.vitals import max_rss_bytes
from runner.transport import Upload, open_transport

async def discard(reader, writer):
    while True:
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        left = int(head.lower().partition(b"content-length:")[2].split()[0])
        while left:
            left -= len(await reader.read(min(left, 65536)))
        writer.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 12\\r\\n\\r\\n{"id":"b_1"}')

async def main():
    server = await asyncio.start_server(discard, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = RunConfig.model_validate({"name": "t", "target": {"transport": sys.argv[1]}})
    transport = open_transport(config, f"http://127.0.0.1:{port}/v1", "k", Counter())
    small = Path(sys.argv[2]).with_suffix(".small")
    small.write_bytes(bytes(2_000_000))
    for path in (small, Path(sys.argv[2])):
        before = max_rss_bytes()
        outcome = await transport.create_batch(Upload(path, path.stat().st_size), "key")
        assert type(outcome).__name__ == "Created", outcome
    print(max_rss_bytes() - before)
    await transport.close()

uvloop.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("name", ["aiohttp", "openai"])
def test_memory_does_not_grow_by_the_size_of_the_file(tmp_path: Path, name: str) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MEGABYTES * 1_000_000)
    command = [sys.executable, "-c", MEASURE, name, str(large)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8_000_000
