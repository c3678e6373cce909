"""`runner batches`: lists the batches that the service has of this API key."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import uvloop

from runner.batch.lookup import PAGE
from runner.batch.names import run_mark
from runner.batch.statuses import words_in
from runner.commands.result import CommandResult
from runner.commands.signals import Signals
from runner.config import RunConfig
from runner.engine.preflight import open_base_url, read_key
from runner.errors import EndpointUnreachable, Problem, RunDirError, StoppedEarly
from runner.policy.retry import wait_s
from runner.report.text import markdown
from runner.session.health import key_refused
from runner.store import RunDir
from runner.transport import Transport, open_transport
from runner.transport.outcomes import (
    BatchEntry,
    Gone,
    Listing,
    Statuses,
    Throttled,
    Transient,
    Unauthorised,
    Unsupported,
)

TRIES: Final = 4
"""Attempts of each request before it is given up."""
Answer = TypeVar("Answer", bound=Listing | Unsupported | Statuses | Gone)


def list_batches(config: RunConfig, most: int, signals: Signals, *, with_status: bool) -> CommandResult:
    """Return a table of the newest `most` batches. Raises `RunnerError`."""
    listing = _Listing(config, most, with_status=with_status)
    signals.hold()  # until the loop runs
    return CommandResult(0, output=uvloop.run(listing.table(signals)))


class _Listing:
    """One `runner batches`."""

    def __init__(self, config: RunConfig, most: int, *, with_status: bool) -> None:
        self._config = config
        self._most = most
        self._with_status = with_status
        self._run_dir = RunDir(Path(config.sink.dir) / config.name)
        self._key = read_key(config)

    async def table(self, signals: Signals) -> str:
        async with AsyncExitStack() as stack:
            opening = open_base_url(self._config, self._run_dir.simulator, stack)
            base_url = await signals.interruptible(opening)
            transport = open_transport(self._config, base_url, self._key, Counter())
            stack.push_async_callback(transport.close)
            entries, progress = await signals.interruptible(self._ask(transport))
        if not entries:
            return "the service has no batches"
        mine, now = self._mark(), time.time()
        head = ["batch", "label", "age", "requests", *(["progress"] if self._with_status else [])]
        rows = [head]
        for number, entry in enumerate(entries):
            is_mine = mine is not None and mine in (entry.label or "")
            rows.append(
                [
                    entry.id,
                    f"{entry.label or '–'}{' (this run)' if is_mine else ''}",
                    "–" if entry.created_at is None else _age(now - entry.created_at),
                    "–" if entry.count is None else f"{entry.count:,}",
                    *([progress[number]] if self._with_status else []),
                ]
            )
        return markdown(rows, left=2)

    async def _ask(self, transport: Transport) -> tuple[list[BatchEntry], list[str]]:
        """Return the batches and, if requested, the progress of each."""
        entries = await self._entries(transport)
        return entries, [await self._progress(transport, it) for it in entries] if self._with_status else []

    async def _entries(self, transport: Transport) -> list[BatchEntry]:
        found: dict[str, BatchEntry] = {}
        before: str | None = None
        while len(found) < self._most:
            page = min(PAGE, self._most - len(found))
            outcome: Listing | Unsupported = await self._answered(
                partial(transport.list_batches, before, page)
            )
            if not isinstance(outcome, Listing):
                what = f"the service lists no batches: {outcome.failure.message}"
                raise StoppedEarly(Problem(what, self._config.target.base_url))
            fresh = [entry for entry in outcome.batches if entry.id not in found]
            if not fresh:
                break
            found.update((entry.id, entry) for entry in fresh)
            before = outcome.batches[-1].id
        return list(found.values())[: self._most]

    async def _progress(self, transport: Transport, entry: BatchEntry) -> str:
        outcome = await self._answered(partial(transport.retrieve_batch, entry.id))
        if not isinstance(outcome, Statuses):
            return "no longer known"
        try:
            words = words_in(outcome.status_map)
        except msgspec.DecodeError as error:
            return f"unreadable: {error}"
        return ", ".join(f"{count:,} {word}" for word, count in words.most_common())

    async def _answered(
        self, ask: Callable[[], Awaitable[Answer | Throttled | Transient | Unauthorised]]
    ) -> Answer:
        """Return the answer, after a few attempts if need be. Raises `StoppedEarly`."""
        retry, failures = self._config.submit.retry, 0
        while True:
            outcome = await ask()
            if isinstance(outcome, Unauthorised):
                raise key_refused(outcome.failure, self._config.target.api_key_env)
            if not isinstance(outcome, Throttled | Transient):
                return outcome
            failures += 1
            if failures == TRIES:
                what = f"no Batch API answers there: {outcome.failure.message}"
                raise EndpointUnreachable(Problem(what, self._config.target.base_url))
            await asyncio.sleep(wait_s(failures, retry.base_s, retry.cap_s, 1.0, outcome.wait_s))

    def _mark(self) -> str | None:
        """Return the text that the labels of this run's batches contain, or None if there is no run."""
        try:
            return run_mark(self._run_dir.read_manifest().run_id) if self._run_dir.exists else None
        except RunDirError:
            return None


def _age(seconds: float) -> str:
    """Return a duration for people: `40 s`, `3 min`, `2 h 5 min`, `3 d 4 h`."""
    seconds = max(seconds, 0.0)
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
