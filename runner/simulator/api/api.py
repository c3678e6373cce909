"""The API, from an HTTP request to a reply, without I/O: routes, keys, faults, what counts as delivered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice

from runner.config.simulation import FaultKind, Simulator
from runner.simulator.api import bodies, faults
from runner.simulator.api.batch_api import PATH as BATCHES
from runner.simulator.api.batch_api import BatchApi, batch_exchange
from runner.simulator.api.middleware import Middleware, only, refused
from runner.simulator.api.reply import HttpReply, SlicedWork
from runner.simulator.api.request_body import RequestBodyReader
from runner.simulator.http.wire import HttpRequest
from runner.simulator.service.job import SimulatedJob
from runner.simulator.service.refusals import Refusal, not_found
from runner.simulator.service.service import Service
from runner.simulator.service.stats import Exchange

_JOBS_A_PIECE = 1000


class Api:
    """`api_key` is the only one accepted; None accepts any."""

    def __init__(self, settings: Simulator, service: Service, api_key: str | None) -> None:
        self.service = service
        self.body_limits = _body_limits(settings)
        """The largest bodies of some paths, in bytes."""
        self._settings = settings
        self._gate = Middleware(settings, service, api_key)
        orders = RequestBodyReader(settings)
        self._read_order = orders.read
        self._write_response = bodies.ResponseWriter(settings).write
        self._batches = BatchApi(settings, service, self._gate, orders)

    def answer(self, request: HttpRequest) -> HttpReply:
        """Never raises for what a client sends. Every reply is to be given back to `served`."""
        path = request.path.partition("?")[0]
        path = path.removeprefix("/v1") if path.startswith("/v1/") else path
        exchange = _exchange(request.method, path)
        if exchange is not None:
            self.service.stats.enter(exchange)
        try:
            reply = self._route(request, path)
        except Refusal as refusal:
            reply = refused(refusal)
        if reply.work is not None:
            reply.exchange = exchange
            reply.work = self._worked(reply.work, exchange)
            return reply
        return self._counted(reply, exchange)

    def again(self, reply: HttpReply, job: SimulatedJob) -> HttpReply:
        """The reply that waits for this job: ready, or to be looked at once more."""
        self.service.now()
        later = self._held(job, reply.fault)
        later.exchange = reply.exchange
        return later

    def served(self, reply: HttpReply, *, sent: bool) -> None:
        """The exchange is over: the reply was given to the socket, or the client went away before."""
        if reply.exchange is not None:
            self.service.stats.leave(reply.exchange)
        if sent and reply.delivers and reply.job is not None:
            self.service.deliver(reply.job)

    def _counted(self, reply: HttpReply, exchange: Exchange | None) -> HttpReply:
        if exchange is not None:
            reply.exchange = exchange
            reply.delay_s += self._settings.exchange_s
        return reply

    def _worked(self, work: SlicedWork, exchange: Exchange | None) -> SlicedWork:
        for said in work:
            yield self._counted(said, exchange) if isinstance(said, HttpReply) else said

    def _route(self, request: HttpRequest, path: str) -> HttpReply:
        if path == "/responses":
            return self._create(request)
        if path.startswith("/responses/"):
            return self._existing(request, path.removeprefix("/responses/"))
        if path == BATCHES or path.startswith(f"{BATCHES}/"):
            return self._batches.route(request, path.removeprefix(BATCHES))
        if path == "/models":
            self._gate.authorise(request)
            only(request, "GET")
            return HttpReply(body=bodies.models_body(self._settings))
        if path == "/simulator/stats":
            only(request, "GET")
            return HttpReply(body=bodies.stats_body(self.service.report()))
        if path == "/simulator/jobs":
            only(request, "GET")
            return HttpReply(content_type="application/jsonl", stream=self._job_lines())
        raise not_found(f"{request.method} {request.path[:200]}")

    def _create(self, request: HttpRequest) -> HttpReply:
        scope = self._gate.authorise(request)
        only(request, "POST")
        self.service.throttle("post")
        kind, nth = self._fault(request.body)
        if kind is not None and kind in faults.INSTEAD:
            return self._gate.instead("post", kind, nth)
        try:
            key = self._gate.idempotency_key(request)
            order = self._read_order(request.body)
            job, is_new = self.service.submit(order, request.body, scope, key)
        except Refusal:
            self.service.stats.rejected += 1
            raise
        if job.terms.background:
            reply = self._gate.spoiled("post", kind, self._object(job, 202))
            if is_new:  # only now: the acknowledgement says pending
                self.service.start(job)
            return reply
        if is_new:
            self.service.start(job)
        return self._held(job, kind)

    def _existing(self, request: HttpRequest, rest: str) -> HttpReply:
        self._gate.authorise(request)
        id, _, action = rest.partition("/")  # noqa: A001  # the field's own word
        if action == "cancel":
            return self._cancel(request, id)
        if action:
            raise not_found(f"{request.method} {request.path[:200]}")
        if request.method == "DELETE":
            return self._delete(request, id)
        only(request, "GET")
        self.service.throttle("get")
        job = self.service.find(id)
        nth = self.service.look(job)
        kind = self._gate.fault("get", job.terms.id.encode(), nth)
        if kind is not None and kind in faults.INSTEAD:
            return self._gate.instead("get", kind, nth)
        return self._gate.spoiled("get", kind, self._object(job, 200))

    def _cancel(self, request: HttpRequest, id: str) -> HttpReply:  # noqa: A002  # the field's own word
        only(request, "POST" if self._settings.cancellation else "")
        job = self.service.find(id)
        self.service.cancel(job)
        return self._object(job, 200)

    def _delete(self, request: HttpRequest, id: str) -> HttpReply:  # noqa: A002  # the field's own word
        only(request, "DELETE" if self._settings.cancellation else "GET")
        job = self.service.find(id)
        self.service.delete(job)
        return HttpReply(body=bodies.deleted_body(job))

    def _object(self, job: SimulatedJob, status_code: int) -> HttpReply:
        return HttpReply(status_code, self._write_response(job), job=job, delivers=job.done)

    def _held(self, job: SimulatedJob, fault: FaultKind | None) -> HttpReply:
        """The reply to a foreground request: nothing until the job is done."""
        if job.done:
            return self._gate.spoiled("post", fault, self._object(job, 200))
        look_again = self.service.slots.next_change(job, self.service.now())
        return HttpReply(waits_for=job, look_again=look_again, fault=fault)

    def _fault(self, body: bytes | bytearray) -> tuple[FaultKind | None, int]:
        if not self._settings.faults.post:
            return None, 0
        return self._gate.post_fault("post", hashlib.sha256(body).digest())

    def _job_lines(self) -> Iterator[bytes]:
        jobs = self.service.jobs()
        while piece := b"".join(map(bodies.job_line, islice(jobs, _JOBS_A_PIECE))):
            yield piece


def _exchange(method: str, path: str) -> Exchange | None:
    if method == "POST" and path == "/responses":
        return "post"
    if method == "GET" and path.startswith("/responses/"):
        return "get"
    if path == BATCHES or path.startswith(f"{BATCHES}/"):
        return batch_exchange(method, path.removeprefix(BATCHES))
    return None


def _body_limits(settings: Simulator) -> dict[str, int]:
    if not settings.batches.offered:
        return {}
    return dict.fromkeys((BATCHES, f"/v1{BATCHES}"), settings.batches.max_bytes)
