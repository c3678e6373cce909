"""Refusals: the service's error replies, raised as an exception and written as the error envelope."""

from __future__ import annotations


class Refusal(Exception):
    """One reply that is not a success. A client sees its status and envelope, never the exception."""

    def __init__(
        self,
        status_code: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002  # the field's name in the envelope
        param: str | None = None,
        code: str | None = None,
        retry_after: str | None = None,
        allow: str | None = None,
    ) -> None:
        self.status_code = status_code
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.allow = allow
        super().__init__(message)


def unauthorised() -> Refusal:
    """Return the refusal of a missing or wrong API key."""
    return Refusal(401, "Missing or incorrect API key.", type="authentication_error", code="invalid_api_key")


def not_found(what: str) -> Refusal:
    """Return the refusal of a request for something that does not exist, named by `what`."""
    return Refusal(404, f"{what} was not found.", type="not_found_error", code="not_found")


def wrong_method(allow: str) -> Refusal:
    """Return the refusal of a method; `allow` lists the allowed ones."""
    return Refusal(405, f"Method not allowed; allowed: {allow}.", code="method_not_allowed", allow=allow)


def throttled(retry_after: str) -> Refusal:
    """Return the refusal of a request that exceeds the rate limit; `retry_after` is in seconds."""
    return Refusal(
        429,
        f"Rate limit reached; retry after {retry_after} s.",
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=retry_after,
    )


def key_conflict() -> Refusal:
    """Return the refusal of an Idempotency-Key that came with another body before."""
    return Refusal(
        400, "This Idempotency-Key was used with a different request body.", type="idempotency_error"
    )
