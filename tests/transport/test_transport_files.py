"""Too many open files is an outcome of its own, and leaves no doubt: nothing was sent."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp
import pytest

from runner.transport import Transport, Upload
from runner.transport.faults import Faults
from runner.transport.outcomes import Accepted, AnyOutcome, SubmitOutcome, Transient
from runner.transport.scrub import Scrubber
from tests.transport.scripted import Service, job
from tests.transport.talking import Talk, Verb, exchange


@contextmanager
def no_more_files() -> Iterator[None]:
    """Limit the open files of this process to those that are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("verb", ["POST", "GET", "CANCEL"])
def test_an_exchange_that_cannot_open_a_connection_leaves_no_doubt(
    talk: Talk, upload: Callable[[bytes], Upload], verb: Verb
) -> None:
    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[AnyOutcome, SubmitOutcome, int, SubmitOutcome]:
        arrived, answer_it = asyncio.Event(), asyncio.Event()
        service.on_request = arrived.set
        service.steps = (job("queued", 202, gate=answer_it),)
        # One exchange holds the only connection, so the next one needs another.
        holder = asyncio.create_task(transport.submit(b"{}", "key-1"))
        await arrived.wait()
        with no_more_files():
            outcome = await exchange(transport, verb, upload)
        answer_it.set()
        return outcome, await holder, len(service.received), await transport.submit(b"{}", "key-2")

    outcome, held, requests, later = talk(conversation)
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous) == ("no_files", False)
    assert os.strerror(errno.EMFILE) in outcome.failure.message
    assert requests == 1
    assert held == later == Accepted(id="resp_1")


@pytest.mark.parametrize(
    ("number", "cause"),
    [(errno.EMFILE, "no_files"), (errno.ENFILE, "no_files"), (errno.ECONNREFUSED, "connect")],
)
def test_too_many_open_files_is_distinguished_from_a_refused_connection(number: int, cause: str) -> None:
    key = aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None)
    error = aiohttp.ClientConnectorError(key, OSError(number, os.strerror(number)))
    outcome = Faults(Scrubber("sk-of-the-customer"), 30.0).transient(error)
    assert (outcome.cause, outcome.ambiguous) == (cause, False)
    assert os.strerror(number) in outcome.failure.message
