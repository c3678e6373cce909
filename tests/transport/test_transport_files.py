"""No more open files: told from a service that is not there, and nothing was sent."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from runner.transport.faults import Faults
from runner.transport.outcomes import Accepted, Transient
from runner.transport.scrub import Scrubber
from tests.transport.conftest import Http


@contextmanager
def no_more_files() -> Iterator[None]:
    """As many files as are open now may be open in this process, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("verb", ["POST", "GET", "CANCEL"])
def test_a_connection_for_which_there_is_no_file_is_not_made_and_leaves_no_doubt(
    talk: Callable[..., Any], http: type[Http], verb: str
) -> None:
    """One exchange holds the only connection; the next needs another."""

    async def conversation(transport, service):
        arrived, answer_it = asyncio.Event(), asyncio.Event()
        service.on_request = lambda _: arrived.set()
        service.steps = (http.job("queued", 202, gate=answer_it),)
        holder = asyncio.create_task(transport.submit(b"{}", "key-1"))
        await arrived.wait()
        with no_more_files():
            outcome = await {
                "POST": lambda: transport.submit(b"{}", "key-2"),
                "GET": lambda: transport.retrieve("resp_1"),
                "CANCEL": lambda: transport.cancel("resp_1"),
            }[verb]()
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
def test_the_limits_of_process_and_system_are_told_from_a_refused_connection(number: Any, cause: str) -> None:
    key = aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None)
    error = aiohttp.ClientConnectorError(key, OSError(number, os.strerror(number)))
    outcome = Faults(Scrubber("sk-of-the-customer"), 30.0).transient(error)
    assert (outcome.cause, outcome.ambiguous) == (cause, False)
    assert os.strerror(number) in outcome.failure.message
