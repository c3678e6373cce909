"""The API, from a request to a reply, without I/O: routes requests and counts exchanges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice

from runner.config.simulation import FaultKind, Simulator
from runner.simulator.api import bodies
from runner.simulator.api.batch_api import PATH as BATCHES
from runner.simulator.api.batch_api import BatchEndpoints, batch_exchange
from runner.simulator.api.injection import FaultInjector
from runner.simulator.api.middleware import Middleware, allow_only, no_such_path, refused
from runner.simulator.api.reply import HttpReply, SlicedWork
from runner.simulator.api.request import HttpRequest
from runner.simulator.api.request_body import RequestBodyReader
from runner.simulator.service.job import SimulatedJob
from runner.simulator.service.refusals import Refusal
from runner.simulator.service.service import Service
from runner.simulator.service.stats import ExchangeKind

_JOBS_A_PIECE = 1000


class Api:
    """All endpoints. `api_key` is the only key accepted; None accepts any."""

    def __init__(self, settings: Simulator, service: Service, api_key: str | None) -> None:
        self.service = service
        self.body_limits = _body_limits(settings)
        """The largest bodies by path, in bytes, where they differ from the default."""
        self._settings = settings
        self._middleware = Middleware(settings, service.stats, api_key)
        self._faults = FaultInjector(settings, service)
        reader = RequestBodyReader(settings)
        self._read_body = reader.read
        self._write_response = bodies.ResponseWriter(settings).write
        self._batches = BatchEndpoints(settings, service, self._middleware, self._faults, reader)

    def answer(self, request: HttpRequest) -> HttpReply:
        """Return the reply to a request, whatever it contains. The caller must pass it to `served`."""
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
            reply.work = self._counted_work(reply.work, exchange)
            return reply
        return self._counted(reply, exchange)

    def resume(self, reply: HttpReply, job: SimulatedJob) -> HttpReply:
        """Return the reply that was waiting for this job, or one that waits on."""
        self.service.now()
        later = self._held(job, reply.fault)
        later.exchange = reply.exchange
        return later

    def served(self, reply: HttpReply, *, sent: bool) -> None:
        """Count the exchange as over: its reply was handed to the socket, or the client went away first."""
        if reply.exchange is not None:
            self.service.stats.leave(reply.exchange)
        if sent and reply.delivers and reply.job is not None:
            self.service.deliver(reply.job)

    def _counted(self, reply: HttpReply, exchange: ExchangeKind | None) -> HttpReply:
        if exchange is not None:
            reply.exchange = exchange
            reply.delay_s += self._settings.exchange_s
        return reply

    def _counted_work(self, work: SlicedWork, exchange: ExchangeKind | None) -> SlicedWork:
        for step in work:
            yield self._counted(step, exchange) if isinstance(step, HttpReply) else step

    def _route(self, request: HttpRequest, path: str) -> HttpReply:
        if path == "/responses":
            return self._create(request)
        if path.startswith("/responses/"):
            return self._existing(request, path.removeprefix("/responses/"))
        if path == BATCHES or path.startswith(f"{BATCHES}/"):
            return self._batches.route(request, path.removeprefix(BATCHES))
        if path == "/models":
            self._middleware.authorise(request)
            allow_only(request, "GET")
            return HttpReply(body=bodies.models_body(self._settings))
        if path == "/simulator/stats":
            allow_only(request, "GET")
            return HttpReply(body=bodies.stats_body(self.service.report()))
        if path == "/simulator/jobs":
            allow_only(request, "GET")
            return HttpReply(content_type="application/jsonl", stream=self._job_lines())
        raise no_such_path(request)

    def _create(self, request: HttpRequest) -> HttpReply:
        scope = self._middleware.authorise(request)
        allow_only(request, "POST")
        self.service.throttle("post")
        sha256 = hashlib.sha256(request.body).digest()
        kind, nth = self._faults.draw_for_post("post", sha256)
        replacement = self._faults.replacement("post", kind, nth)
        if replacement is not None:
            return replacement
        try:
            key = self._middleware.idempotency_key(request)
            job, is_new = self.service.submit(self._read_body(request.body), sha256, scope, key)
        except Refusal:
            self.service.stats.rejected += 1
            raise
        if job.terms.background:
            reply = self._faults.spoiled("post", kind, self._response(job, 202))
            if is_new:  # only now, so that the acknowledgement says pending
                self.service.start(job)
            return reply
        if is_new:
            self.service.start(job)
        return self._held(job, kind)

    def _existing(self, request: HttpRequest, rest: str) -> HttpReply:
        self._middleware.authorise(request)
        job_id, _, action = rest.partition("/")
        if action == "cancel":
            return self._cancel(request, job_id)
        if action:
            raise no_such_path(request)
        if request.method == "DELETE":
            return self._delete(request, job_id)
        allow_only(request, "GET")
        self.service.throttle("get")
        job = self.service.find(job_id)
        nth = self.service.count_poll(job)
        return self._faults.inject("get", job.terms.id.encode(), nth, lambda: self._response(job, 200))

    def _cancel(self, request: HttpRequest, job_id: str) -> HttpReply:
        allow_only(request, "POST" if self._settings.cancellation else "")
        job = self.service.find(job_id)
        self.service.cancel(job)
        return self._response(job, 200)

    def _delete(self, request: HttpRequest, job_id: str) -> HttpReply:
        allow_only(request, "DELETE" if self._settings.cancellation else "GET")
        job = self.service.find(job_id)
        self.service.delete(job)
        return HttpReply(body=bodies.deleted_body(job))

    def _response(self, job: SimulatedJob, status_code: int) -> HttpReply:
        return HttpReply(status_code, self._write_response(job), job=job, delivers=job.done)

    def _held(self, job: SimulatedJob, fault: FaultKind | None) -> HttpReply:
        """Return the reply to a foreground request, which waits until the job is done."""
        if job.done:
            return self._faults.spoiled("post", fault, self._response(job, 200))
        check_at = self.service.slots.next_change(job, self.service.now())
        return HttpReply(waits_for=job, check_at=check_at, fault=fault)

    def _job_lines(self) -> Iterator[bytes]:
        jobs = self.service.jobs()
        while piece := b"".join(map(bodies.job_line, islice(jobs, _JOBS_A_PIECE))):
            yield piece


def _exchange(method: str, path: str) -> ExchangeKind | None:
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
