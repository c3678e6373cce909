"""The Batch API, from an HTTP request to a reply or to the work that makes one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator
from typing import Final
from urllib.parse import parse_qsl, unquote

from runner.config.simulation import Simulator
from runner.simulator.api import faults
from runner.simulator.api.batch_body import BatchBodyReader
from runner.simulator.api.bodies import ResponseWriter
from runner.simulator.api.middleware import Middleware, only, refused
from runner.simulator.api.reply import HttpReply, SlicedWork
from runner.simulator.api.request_body import RequestBodyReader
from runner.simulator.http.wire import HttpRequest
from runner.simulator.service.batch import SimulatedBatch
from runner.simulator.service.refusals import Refusal, not_found
from runner.simulator.service.service import Service
from runner.simulator.service.stats import Exchange

PATH: Final = "/batches"
_LIMIT, _LIMIT_AT_MOST = 25, 200
_NUMBER = re.compile(r"[0-9]{1,9}")
_HASHED_AT_ONCE = 2 * 1024 * 1024
_LOOK_AGAIN_S = 0.005


class BatchApi:
    """The jobs of a batch are responses as any other: GET /responses/{id} finds them too."""

    def __init__(
        self, settings: Simulator, service: Service, gate: Middleware, orders: RequestBodyReader
    ) -> None:
        self._settings = settings.batches
        self._service = service
        self._gate = gate
        self._read = BatchBodyReader(settings, orders).read
        self._write_response = ResponseWriter(settings).write
        self._making: set[tuple[str, str]] = set()
        """Scopes and keys of batches that are being created."""
        self._lists: dict[str, int] = {}

    def route(self, request: HttpRequest, path: str) -> HttpReply:
        """`path` is the rest after PATH. Raises Refusal."""
        if not self._settings.offered:
            raise not_found(f"{request.method} {request.path[:200]}")
        scope = self._gate.authorise(request)
        if not path:
            return self._all(request, scope)
        only(request, "GET")
        self._service.throttle("get")
        batch_id, slash, custom_id = path[1:].partition("/")
        batch = self._service.find_batch(unquote(batch_id), scope)
        return self._result(batch, unquote(custom_id)) if slash else self._status(batch)

    def _all(self, request: HttpRequest, scope: str) -> HttpReply:
        if request.method == "GET" and not self._settings.listing:
            raise not_found(f"{request.method} {request.path[:200]}")
        only(request, *(("GET", "POST") if self._settings.listing else ("POST",)))
        if request.method == "GET":
            self._service.throttle("get")
            return self._list(request, scope)
        self._service.throttle("post")
        return HttpReply(work=self._create(request, scope))

    # --- POST /batches

    def _create(self, request: HttpRequest, scope: str) -> SlicedWork:
        """Creates the batch and then lets its jobs begin; goes on where the client has gone away."""
        arrived = self._service.now()
        sha256 = yield from _sha256(request.body)
        kind, nth = self._gate.post_fault("batch", sha256)
        if kind is not None and kind in faults.INSTEAD:
            yield self._gate.instead("batch", kind, nth)
            return
        try:
            batch, is_new = yield from self._submit(request, sha256, scope, arrived)
        except Refusal as refusal:
            self._service.stats.rejected += 1
            yield refused(refusal)
            return
        body = batch.summary(self._settings.labels).encode()
        yield self._gate.spoiled("batch", kind, HttpReply(body=body))
        if is_new:
            yield from self._service.start_all()

    def _submit(
        self, request: HttpRequest, sha256: bytes, scope: str, arrived: float
    ) -> Generator[float, None, tuple[SimulatedBatch, bool]]:
        """The batch for this request, and whether it is new. Raises Refusal."""
        key = self._gate.idempotency_key(request)
        making = None if key is None else (scope, key)
        while (
            making in self._making
        ):  # the key sent twice at once: the second waits for what the first becomes
            yield _LOOK_AGAIN_S
        known = self._service.known_batch(sha256, scope, key)
        if known is not None:
            return known, False
        if making is not None:
            self._making.add(making)
        try:
            reading = self._read(request.body)
            request.body = b""  # let go of as soon as it is read
            draft = yield from reading
            if (wait_s := arrived + self._settings.create_s - self._service.now()) > 0:
                yield wait_s
            return (yield from self._service.create_batch(draft, sha256, scope, key)), True
        finally:
            if making is not None:
                self._making.discard(making)

    # --- the three GETs

    def _status(self, batch: SimulatedBatch) -> HttpReply:
        nth = batch.looks
        batch.looks += 1
        kind = self._gate.fault("status", batch.terms.id.encode(), nth)
        if kind is not None and kind in faults.INSTEAD:
            return self._gate.instead("status", kind, nth)
        return self._gate.spoiled("status", kind, HttpReply(body=batch.status(self._settings.labels)))

    def _result(self, batch: SimulatedBatch, custom_id: str) -> HttpReply:
        job = self._service.item(batch, custom_id)
        nth = self._service.look(job)
        kind = self._gate.fault("result", job.terms.id.encode(), nth)
        if kind is not None and kind in faults.INSTEAD:
            return self._gate.instead("result", kind, nth)
        reply = HttpReply(200, self._write_response(job), job=job, delivers=job.done)
        return self._gate.spoiled("result", kind, reply)

    def _list(self, request: HttpRequest, scope: str) -> HttpReply:
        query = dict(parse_qsl(request.path.partition("?")[2], keep_blank_values=True))
        page = self._service.batches.page(
            scope, query.get("after_id"), query.get("before_id"), _limit(query.get("limit"))
        )
        nth = self._lists.get(scope, 0)
        self._lists[scope] = nth + 1
        kind = self._gate.fault("status", scope.encode(), nth)
        if kind is not None and kind in faults.INSTEAD:
            return self._gate.instead("status", kind, nth)
        body = f"[{','.join(batch.summary(self._settings.labels) for batch in page)}]"
        return self._gate.spoiled("status", kind, HttpReply(body=body.encode()))


def batch_exchange(method: str, path: str) -> Exchange | None:
    """What a request below PATH counts as; `path` is the rest after it."""
    if method == "POST" and not path:
        return "batch"
    if method != "GET":
        return None
    if not path:
        return "list"
    return "result" if "/" in path[1:] else "look"


def _limit(text: str | None) -> int:
    if text is None:
        return _LIMIT
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= _LIMIT_AT_MOST:
        message = f"limit must be a whole number from 1 to {_LIMIT_AT_MOST}."
        raise Refusal(400, message, param="limit", code="invalid_value")
    return int(text)


def _sha256(body: bytes | bytearray) -> Generator[float, None, bytes]:
    digest = hashlib.sha256()
    with memoryview(body) as view:
        for start in range(0, len(view), _HASHED_AT_ONCE):
            if start:
                yield 0.0
            digest.update(view[start : start + _HASHED_AT_ONCE])
    return digest.digest()
