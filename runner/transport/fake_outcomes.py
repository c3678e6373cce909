"""Outcomes in a few words, for the script of the fake transport and for tests."""

from __future__ import annotations

from typing import Final

import msgspec

from runner.records import Failure, Reply, ResultStatus, Usage
from runner.transport.outcomes import Done, Gone, Rejected, Throttled, Transient, Unauthorised, Unsupported

USAGE: Final = Usage(input=10, output=20)
"""Tokens that a job of the fake service uses unless its behaviour says otherwise."""


def throttled(wait_s: float | None = None, status: int = 429) -> Throttled:
    """Return a refusal of one request too many; `wait_s` is the wait that the service asks for."""
    failure = Failure("rate_limit", "Too many requests.", status)
    return Throttled(str(status), wait_s, failure)


def transient(cause: str = "500", *, ambiguous: bool = False, wait_s: float | None = None) -> Transient:
    """Return a failure worth a retry: a status as text, or one of `outcomes.SILENT`.

    A cause that is a status counts as spoken by the service itself.
    """
    if cause.isdecimal():
        failure = Failure("server_error", "The server had an error.", int(cause))
        return Transient(cause, failure, ambiguous, wait_s, is_spoken=True)
    return Transient(cause, Failure(cause, f"no answer ({cause})"), ambiguous, wait_s)


def rejected(message: str = "Invalid input.", status: int = 400, param: str | None = None) -> Rejected:
    """Return a definite no in the error format of the API; `param` names the part of the request."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    reply = Reply(status, None, msgspec.Raw(msgspec.json.encode({"error": error})))
    return Rejected(Failure("invalid_request_error", message, status), reply, has_envelope=True, param=param)


def unauthorised(status: int = 401) -> Unauthorised:
    """Return a refusal of the API key."""
    return Unauthorised(Failure("invalid_api_key", "Incorrect API key.", status))


def gone(status: int = 404) -> Gone:
    """Return the answer about a job or a batch that the service does not know."""
    return Gone(Failure("not_found_error", "Not found.", status))


def unsupported(status: int = 404) -> Unsupported:
    """Return the answer of a service that does not list batches."""
    return Unsupported(Failure("not_found_error", "Not found.", status))


def done(job_id: str, status: ResultStatus = "completed", usage: Usage = USAGE) -> Done:
    """Return the final answer about a job, with a small response object as its body."""
    body = {
        "id": job_id,
        "object": "response",
        "status": status,
        "output": f"The answer to {job_id}.",
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        },
    }
    failure = None if status == "completed" else Failure(status, f"the job ended {status}", 200)
    return Done(status, Reply(200, None, msgspec.Raw(msgspec.json.encode(body))), usage, failure)
