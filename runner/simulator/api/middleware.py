"""What every exchange passes on its way in and out: the API key, the Idempotency-Key, the faults."""

from __future__ import annotations

import hashlib
import hmac

from runner.config.simulation import FaultKind, Simulator
from runner.simulator.api import bodies, faults
from runner.simulator.api.reply import HttpReply
from runner.simulator.http.wire import HttpRequest
from runner.simulator.service.refusals import Refusal, unauthorised, wrong_method
from runner.simulator.service.seeded import Draws
from runner.simulator.service.service import Service
from runner.simulator.service.stats import FaultTable

_KEY_LENGTH = 255


class Middleware:
    """`api_key` is the only one accepted; None accepts any."""

    def __init__(self, settings: Simulator, service: Service, api_key: str | None) -> None:
        self._settings = settings
        self._service = service
        self._api_key = None if api_key is None else api_key.encode()
        self._scopes: dict[bytes, str] = {}
        self._posts: dict[bytes, int] = {}
        self._faults: dict[FaultTable, dict[FaultKind, float]] = {
            "post": settings.faults.post,
            "get": settings.faults.get,
            "batch": settings.faults.batch,
            "status": settings.faults.status,
            "result": settings.faults.result,
        }

    def authorise(self, request: HttpRequest) -> str:
        """The scope that stands for the API key. Raises Refusal (401)."""
        scheme, _, key = request.headers.get(b"authorization", b"").partition(b" ")
        key = key.strip()
        wrong = scheme.lower() != b"bearer" or not key
        if wrong or (self._api_key is not None and not hmac.compare_digest(key, self._api_key)):
            self._service.stats.unauthorised += 1
            raise unauthorised()
        # Only a short digest outlives the request: enough to tell keys apart, too little to hold one.
        digest = hashlib.blake2b(key, digest_size=8, person=b"simulator").digest()
        return self._scopes.setdefault(digest, digest.hex())

    def idempotency_key(self, request: HttpRequest) -> str | None:
        """Raises Refusal (400) where it is too long."""
        header = request.headers.get(b"idempotency-key")
        if not header or not self._settings.idempotency:
            return None
        if len(header) > _KEY_LENGTH:
            message = f"Idempotency-Key is longer than {_KEY_LENGTH} characters."
            raise Refusal(400, message, param="Idempotency-Key", code="invalid_value")
        return header.decode("latin-1")

    def post_fault(self, table: FaultTable, sha256: bytes) -> tuple[FaultKind | None, int]:
        """The fault that a POST with this digest of its body meets, and how often that came before."""
        if not self._faults[table]:
            return None, 0
        nth = self._posts.get(sha256, 0)
        self._posts[sha256] = nth + 1
        return self.fault(table, sha256, nth), nth

    def fault(self, table: FaultTable, about: bytes, nth: int) -> FaultKind | None:
        if not self._faults[table]:
            return None
        draws = Draws(self._settings.seed, table.encode(), about, nth)
        return faults.pick(self._faults[table], draws.unit(0))

    def instead(self, table: FaultTable, kind: FaultKind, nth: int) -> HttpReply:
        self._service.stats.fault(table, kind)
        return faults.instead(kind, nth, self._service.now())

    def spoiled(self, table: FaultTable, kind: FaultKind | None, reply: HttpReply) -> HttpReply:
        if kind is None:
            return reply
        self._service.stats.fault(table, kind)
        return faults.spoil(kind, reply, self._settings.fault_s)


def only(request: HttpRequest, *methods: str) -> None:
    """Raises Refusal (405)."""
    if request.method not in methods:
        raise wrong_method(", ".join(methods))


def refused(refusal: Refusal) -> HttpReply:
    return HttpReply(
        refusal.status_code,
        bodies.error_body(refusal),
        retry_after=refusal.retry_after,
        allow=refusal.allow,
    )
