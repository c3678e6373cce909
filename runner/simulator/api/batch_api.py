"""The endpoints of the Batch API, from a request to a reply or to the work that makes one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator
from typing import Final
from urllib.parse import parse_qsl, unquote

from runner.config.simulation import Simulator
from runner.simulator.api.batch_body import BatchBodyReader
from runner.simulator.api.bodies import ResponseWriter
from runner.simulator.api.injection import FaultInjector
from runner.simulator.api.middleware import Middleware, allow_only, no_such_path, refused
from runner.simulator.api.reply import HttpReply, SlicedWork
from runner.simulator.api.request import HttpRequest
from runner.simulator.api.request_body import RequestBodyReader
from runner.simulator.service.batch import SimulatedBatch
from runner.simulator.service.refusals import Refusal
from runner.simulator.service.service import Service
from runner.simulator.service.stats import ExchangeKind

PATH: Final = "/batches"
_LIMIT, _LIMIT_AT_MOST = 25, 200
_NUMBER = re.compile(r"[0-9]{1,9}")
_HASHED_AT_ONCE = 2 * 1024 * 1024
_CHECK_AFTER_S = 0.005


class BatchEndpoints:
    """The four endpoints of batches. Their jobs can be polled under GET /responses/{id}, like any other."""

    def __init__(
        self,
        settings: Simulator,
        service: Service,
        middleware: Middleware,
        faults: FaultInjector,
        reader: RequestBodyReader,
    ) -> None:
        self._settings = settings.batches
        self._service = service
        self._middleware = middleware
        self._faults = faults
        self._read = BatchBodyReader(settings, reader).read
        self._write_response = ResponseWriter(settings).write
        self._creating: set[tuple[str, str]] = set()
        """Scopes and Idempotency-Keys of batches that are being created."""
        self._lists: dict[str, int] = {}
        """Number of GETs of the list, by scope."""

    def route(self, request: HttpRequest, path: str) -> HttpReply:
        """Return the reply to a request; `path` is the rest after PATH. Raises Refusal."""
        if not self._settings.offered:
            raise no_such_path(request)
        scope = self._middleware.authorise(request)
        if not path:
            return self._all(request, scope)
        allow_only(request, "GET")
        self._service.throttle("get")
        batch_id, slash, custom_id = path[1:].partition("/")
        batch = self._service.find_batch(unquote(batch_id), scope)
        return self._result(batch, unquote(custom_id)) if slash else self._status(batch)

    def _all(self, request: HttpRequest, scope: str) -> HttpReply:
        if request.method == "GET" and not self._settings.listing:
            raise no_such_path(request)
        allow_only(request, *(("GET", "POST") if self._settings.listing else ("POST",)))
        if request.method == "GET":
            self._service.throttle("get")
            return self._list(request, scope)
        self._service.throttle("post")
        return HttpReply(work=self._create(request, scope))

    # --- POST /batches

    def _create(self, request: HttpRequest, scope: str) -> SlicedWork:
        """Create the batch, reply, and start its jobs. Goes on even if the client goes away."""
        arrived = self._service.now()
        sha256 = yield from _sha256(request.body)
        kind, nth = self._faults.draw_for_post("batch", sha256)
        replacement = self._faults.replacement("batch", kind, nth)
        if replacement is not None:
            yield replacement
            return
        try:
            batch, is_new = yield from self._submit(request, sha256, scope, arrived)
        except Refusal as refusal:
            self._service.stats.rejected += 1
            yield refused(refusal)
            return
        body = batch.summary(self._settings.labels).encode()
        yield self._faults.spoiled("batch", kind, HttpReply(body=body))
        if is_new:
            yield from self._service.start_all()

    def _submit(
        self, request: HttpRequest, sha256: bytes, scope: str, arrived: float
    ) -> Generator[float, None, tuple[SimulatedBatch, bool]]:
        """Return the batch for a request, and whether it is new. Raises Refusal."""
        key = self._middleware.idempotency_key(request)
        creating = None if key is None else (scope, key)
        while creating in self._creating:  # the same key twice at once: wait for the outcome of the first
            yield _CHECK_AFTER_S
        known = self._service.known_batch(sha256, scope, key)
        if known is not None:
            return known, False
        if creating is not None:
            self._creating.add(creating)
        try:
            reading = self._read(request.body)
            request.body = b""  # frees the memory as soon as the body is read
            spec = yield from reading
            if (wait_s := arrived + self._settings.create_s - self._service.now()) > 0:
                yield wait_s
            return (yield from self._service.create_batch(spec, sha256, scope, key)), True
        finally:
            if creating is not None:
                self._creating.discard(creating)

    # --- the three GETs

    def _status(self, batch: SimulatedBatch) -> HttpReply:
        nth = batch.polls
        batch.polls += 1
        return self._faults.inject(
            "status",
            batch.terms.id.encode(),
            nth,
            lambda: HttpReply(body=batch.status(self._settings.labels)),
        )

    def _result(self, batch: SimulatedBatch, custom_id: str) -> HttpReply:
        job = self._service.find_result(batch, custom_id)
        nth = self._service.count_poll(job)
        return self._faults.inject(
            "result",
            job.terms.id.encode(),
            nth,
            lambda: HttpReply(200, self._write_response(job), job=job, delivers=job.done),
        )

    def _list(self, request: HttpRequest, scope: str) -> HttpReply:
        query = dict(parse_qsl(request.path.partition("?")[2], keep_blank_values=True))
        page = self._service.batches.page(
            scope, query.get("after_id"), query.get("before_id"), _limit(query.get("limit"))
        )
        nth = self._lists.get(scope, 0)
        self._lists[scope] = nth + 1
        return self._faults.inject("status", scope.encode(), nth, lambda: self._listing(page))

    def _listing(self, page: list[SimulatedBatch]) -> HttpReply:
        body = f"[{','.join(batch.summary(self._settings.labels) for batch in page)}]"
        return HttpReply(body=body.encode())


def batch_exchange(method: str, path: str) -> ExchangeKind | None:
    """Return the sort of exchange that a request counts as; `path` is the rest after PATH."""
    if method == "POST" and not path:
        return "batch"
    if method != "GET":
        return None
    if not path:
        return "list"
    return "result" if "/" in path[1:] else "status"


def _limit(text: str | None) -> int:
    if text is None:
        return _LIMIT
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= _LIMIT_AT_MOST:
        message = f"limit must be a whole number from 1 to {_LIMIT_AT_MOST}."
        raise Refusal(400, message, param="limit", code="invalid_value")
    return int(text)


def _sha256(body: bytes | bytearray) -> Generator[float, None, bytes]:
    """Return the digest of a large body; yields seconds to rest (0) between slices."""
    digest = hashlib.sha256()
    with memoryview(body) as view:
        for start in range(0, len(view), _HASHED_AT_ONCE):
            if start:
                yield 0.0
            digest.update(view[start : start + _HASHED_AT_ONCE])
    return digest.digest()
