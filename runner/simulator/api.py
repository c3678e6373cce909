"""The API, from an HTTP request to a reply, without I/O: routes, keys, faults, what counts as delivered."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from itertools import islice

from runner.config.simulation import FaultKind, Simulator
from runner.simulator import bodies, faults
from runner.simulator.account import Exchange
from runner.simulator.chance import Draws
from runner.simulator.job import Job
from runner.simulator.order import OrderReader
from runner.simulator.refusals import Refusal, not_found, unauthorised, wrong_method
from runner.simulator.reply import Reply
from runner.simulator.service import Service
from runner.simulator.wire import Request

_KEY_LENGTH = 255
_JOBS_A_PIECE = 1000


class Api:
    """`api_key` is the only one accepted; None accepts any."""

    def __init__(self, settings: Simulator, service: Service, api_key: str | None) -> None:
        self.service = service
        self._settings = settings
        self._read_order = OrderReader(settings).read
        self._write_response = bodies.ResponseWriter(settings).write
        self._api_key = None if api_key is None else api_key.encode()
        self._scopes: dict[bytes, str] = {}
        self._posts: dict[bytes, int] = {}

    def answer(self, request: Request) -> Reply:
        """Never raises for what a client sends. Every reply is to be given back to `served`."""
        path = request.path.partition("?")[0]
        path = path.removeprefix("/v1") if path.startswith("/v1/") else path
        exchange = _exchange(request.method, path)
        if exchange is not None:
            self.service.account.enter(exchange)
        try:
            reply = self._route(request, path)
        except Refusal as refusal:
            reply = self._refuse(refusal)
        if exchange is not None:
            reply.exchange = exchange
            reply.delay_s += self._settings.exchange_s
        return reply

    def again(self, reply: Reply, job: Job) -> Reply:
        """The reply that waits for this job: ready, or to be looked at once more."""
        self.service.now()
        later = self._held(job, reply.fault)
        later.exchange = reply.exchange
        return later

    def served(self, reply: Reply, *, sent: bool) -> None:
        """The exchange is over: the reply was given to the socket, or the client went away before."""
        if reply.exchange is not None:
            self.service.account.leave(reply.exchange)
        if sent and reply.delivers and reply.job is not None:
            self.service.deliver(reply.job)

    def _route(self, request: Request, path: str) -> Reply:
        if path == "/responses":
            return self._create(request)
        if path.startswith("/responses/"):
            return self._existing(request, path.removeprefix("/responses/"))
        if path == "/models":
            self._authorise(request)
            _only(request, "GET")
            return Reply(body=bodies.models_body(self._settings))
        if path == "/simulator/account":
            _only(request, "GET")
            return Reply(body=bodies.account_body(self.service.report()))
        if path == "/simulator/jobs":
            _only(request, "GET")
            return Reply(content_type="application/jsonl", stream=self._job_lines())
        raise not_found(f"{request.method} {request.path[:200]}")

    def _create(self, request: Request) -> Reply:
        scope = self._authorise(request)
        _only(request, "POST")
        self.service.throttle("post")
        fault = self._post_fault(request.body)
        if fault is not None and fault[0] in faults.INSTEAD:
            return self._instead("post", *fault)
        try:
            key = self._idempotency_key(request)
            order = self._read_order(request.body)
            job, is_new = self.service.submit(order, request.body, scope, key)
        except Refusal:
            self.service.account.rejected += 1
            raise
        kind = None if fault is None else fault[0]
        if job.terms.background:
            reply = self._spoiled("post", kind, self._object(job, 202))
            if is_new:  # only now: the acknowledgement says pending
                self.service.start(job)
            return reply
        if is_new:
            self.service.start(job)
        return self._held(job, kind)

    def _existing(self, request: Request, rest: str) -> Reply:
        self._authorise(request)
        id, _, action = rest.partition("/")  # noqa: A001  # the field's own word
        if action == "cancel":
            return self._cancel(request, id)
        if action:
            raise not_found(f"{request.method} {request.path[:200]}")
        if request.method == "DELETE":
            return self._delete(request, id)
        _only(request, "GET")
        self.service.throttle("get")
        job = self.service.find(id)
        nth = job.gets
        job.gets += 1
        if job.delivered is not None:
            self.service.account.polls_after_delivery += 1
        kind = self._fault("get", job.terms.id.encode(), nth)
        if kind is not None and kind in faults.INSTEAD:
            return self._instead("get", kind, nth)
        return self._spoiled("get", kind, self._object(job, 200))

    def _cancel(self, request: Request, id: str) -> Reply:  # noqa: A002  # the field's own word
        _only(request, "POST" if self._settings.cancellation else "")
        job = self.service.find(id)
        self.service.cancel(job)
        return self._object(job, 200)

    def _delete(self, request: Request, id: str) -> Reply:  # noqa: A002  # the field's own word
        _only(request, "DELETE" if self._settings.cancellation else "GET")
        job = self.service.find(id)
        self.service.delete(job)
        return Reply(body=bodies.deleted_body(job))

    def _object(self, job: Job, status_code: int) -> Reply:
        return Reply(status_code, self._write_response(job), job=job, delivers=job.done)

    def _held(self, job: Job, fault: FaultKind | None) -> Reply:
        """The reply to a foreground request: nothing until the job is done."""
        if job.done:
            return self._spoiled("post", fault, self._object(job, 200))
        look_again = self.service.slots.next_change(job, self.service.now())
        return Reply(waits_for=job, look_again=look_again, fault=fault)

    def _spoiled(self, exchange: Exchange, fault: FaultKind | None, reply: Reply) -> Reply:
        if fault is None:
            return reply
        self.service.account.fault(exchange, fault)
        return faults.spoil(fault, reply, self._settings.fault_s)

    def _authorise(self, request: Request) -> str:
        """The scope that stands for the API key. Raises Refusal (401)."""
        scheme, _, key = request.headers.get(b"authorization", b"").partition(b" ")
        key = key.strip()
        wrong = scheme.lower() != b"bearer" or not key
        if wrong or (self._api_key is not None and not hmac.compare_digest(key, self._api_key)):
            self.service.account.unauthorised += 1
            raise unauthorised()
        # Only a short digest outlives the request: enough to tell keys apart, too little to hold one.
        digest = hashlib.blake2b(key, digest_size=8, person=b"simulator").digest()
        return self._scopes.setdefault(digest, digest.hex())

    def _idempotency_key(self, request: Request) -> str | None:
        header = request.headers.get(b"idempotency-key")
        if not header or not self._settings.idempotency:
            return None
        if len(header) > _KEY_LENGTH:
            message = f"Idempotency-Key is longer than {_KEY_LENGTH} characters."
            raise Refusal(400, message, param="Idempotency-Key", code="invalid_value")
        return header.decode("latin-1")

    def _post_fault(self, body: bytes) -> tuple[FaultKind, int] | None:
        if not self._settings.faults.post:
            return None
        digest = hashlib.sha256(body).digest()
        nth = self._posts.get(digest, 0)
        self._posts[digest] = nth + 1
        kind = self._fault("post", digest, nth)
        return None if kind is None else (kind, nth)

    def _fault(self, exchange: Exchange, about: bytes, nth: int) -> FaultKind | None:
        table = self._settings.faults.post if exchange == "post" else self._settings.faults.get
        if not table:
            return None
        draws = Draws(self._settings.seed, exchange.encode(), about, nth)
        return faults.pick(table, draws.unit(0))

    def _instead(self, exchange: Exchange, kind: FaultKind, nth: int) -> Reply:
        self.service.account.fault(exchange, kind)
        return faults.instead(kind, nth, self.service.now())

    def _refuse(self, refusal: Refusal) -> Reply:
        return Reply(
            refusal.status_code,
            bodies.error_body(refusal),
            retry_after=refusal.retry_after,
            allow=refusal.allow,
        )

    def _job_lines(self) -> Iterator[bytes]:
        jobs = self.service.jobs()
        while piece := b"".join(map(bodies.job_line, islice(jobs, _JOBS_A_PIECE))):
            yield piece


def _exchange(method: str, path: str) -> Exchange | None:
    if method == "POST" and path == "/responses":
        return "post"
    if method == "GET" and path.startswith("/responses/"):
        return "get"
    return None


def _only(request: Request, method: str) -> None:
    if request.method != method:
        raise wrong_method(method)
