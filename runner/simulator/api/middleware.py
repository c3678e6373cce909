"""Checks that all endpoints share: the API key, the Idempotency-Key, the method."""

from __future__ import annotations

import hashlib
import hmac

from runner.config.simulation import Simulator
from runner.simulator.api import bodies
from runner.simulator.api.reply import HttpReply
from runner.simulator.api.request import HttpRequest
from runner.simulator.service.refusals import Refusal, not_found, unauthorised, wrong_method
from runner.simulator.service.stats import Stats

_KEY_LENGTH = 255


class Middleware:
    """The checks of a request's headers. `api_key` is the only key accepted; None accepts any."""

    def __init__(self, settings: Simulator, stats: Stats, api_key: str | None) -> None:
        self._honours_keys = settings.idempotency
        self._stats = stats
        self._api_key = None if api_key is None else api_key.encode()
        self._scopes: dict[bytes, str] = {}

    def authorise(self, request: HttpRequest) -> str:
        """Return the scope that stands for the request's API key. Raises Refusal (401)."""
        scheme, _, key = request.headers.get(b"authorization", b"").partition(b" ")
        key = key.strip()
        wrong = scheme.lower() != b"bearer" or not key
        if wrong or (self._api_key is not None and not hmac.compare_digest(key, self._api_key)):
            self._stats.unauthorised += 1
            raise unauthorised()
        # Only a short digest outlives the request: enough to distinguish keys, too little to restore one.
        digest = hashlib.blake2b(key, digest_size=8, person=b"simulator").digest()
        return self._scopes.setdefault(digest, digest.hex())

    def idempotency_key(self, request: HttpRequest) -> str | None:
        """Return the Idempotency-Key, or None if it is missing or ignored. Raises Refusal (400)."""
        header = request.headers.get(b"idempotency-key")
        if not header or not self._honours_keys:
            return None
        if len(header) > _KEY_LENGTH:
            message = f"Idempotency-Key is longer than {_KEY_LENGTH} characters."
            raise Refusal(400, message, param="Idempotency-Key", code="invalid_value")
        return header.decode("latin-1")


def allow_only(request: HttpRequest, *methods: str) -> None:
    """Check the request's method. Raises Refusal (405)."""
    if request.method not in methods:
        raise wrong_method(", ".join(methods))


def no_such_path(request: HttpRequest) -> Refusal:
    """Return the refusal of a path that the service does not serve."""
    return not_found(f"{request.method} {request.path[:200]}")


def refused(refusal: Refusal) -> HttpReply:
    """Return the reply that a refusal becomes."""
    return HttpReply(
        refusal.status_code,
        bodies.error_body(refusal),
        retry_after=refusal.retry_after,
        allow=refusal.allow,
    )
