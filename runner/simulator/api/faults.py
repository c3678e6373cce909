"""Faults: how each kind is picked, and the reply that results. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Final

import msgspec

from runner.config.simulation import FaultKind
from runner.simulator.api.bodies import error_body
from runner.simulator.api.reply import HttpReply
from runner.simulator.service.refusals import Refusal

RETRY_AFTER_S: Final = 1
ODD_STATUS: Final = "warming_up"

REPLACING: Final[frozenset[FaultKind]] = frozenset(
    {"400", "404", "429", "500", "502", "503", "504", "529", "html", "reset", "hang"}
)
"""Faults that prevent the exchange: a POST creates nothing. All other kinds spoil the reply afterwards."""

_ENVELOPES: Final[dict[str, tuple[str, str, str]]] = {
    "400": ("invalid_request_error", "invalid_value", "The request was refused."),
    "404": ("not_found_error", "not_found", "Not found."),
    "429": ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached for this model."),
    "500": ("server_error", "internal_error", "Internal error."),
    "502": ("server_error", "bad_gateway", "Upstream proxy error."),
    "503": ("server_error", "model_capacity_unavailable", "No capacity for this model at the moment."),
    "504": ("server_error", "timeout", "Timed out upstream."),
    "529": ("overloaded_error", "overloaded", "The model is overloaded."),
}
_WITH_RETRY_AFTER: Final = ("429", "503", "529")
_PAGE: Final = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>\n"
)


def pick(faults: Mapping[FaultKind, float], unit: float) -> FaultKind | None:
    """Return the fault for a number in [0, 1); each kind covers a range as wide as its probability."""
    for kind, probability in faults.items():
        if unit < probability:
            return kind
        unit -= probability
    return None


def replacement(kind: FaultKind, nth: int, now: float) -> HttpReply:
    """Return the reply of a fault in REPLACING. `nth` alternates the two forms of Retry-After."""
    if kind == "reset":
        return HttpReply(manner="reset")
    if kind == "hang":
        return HttpReply(manner="hang")
    if kind == "html":
        return HttpReply(502, _PAGE, content_type="text/html")
    error_type, code, message = _ENVELOPES[kind]
    retry_after = None
    if kind in _WITH_RETRY_AFTER:
        # A date has whole seconds: one is added so that it lies in the future.
        date = formatdate(now + RETRY_AFTER_S + 1, usegmt=True)
        retry_after = date if nth % 2 else str(RETRY_AFTER_S)
    body = error_body(Refusal(int(kind), message, type=error_type, code=code))
    return HttpReply(int(kind), body, retry_after=retry_after)


def spoil(kind: FaultKind, reply: HttpReply, fault_s: float) -> HttpReply:
    """Return a reply as this fault leaves it. All faults but `slow` prevent the delivery.

    In a list of batches, every batch loses its id or gains a status.
    """
    change = msgspec.structs.replace
    if kind == "slow":
        return change(reply, delay_s=reply.delay_s + fault_s)
    reply = change(reply, delivers=False)
    is_list = reply.body.startswith(b"[")
    match kind:
        case "lost":
            return change(reply, manner="close")
        case "cut":
            return change(reply, manner="cut")
        case "empty":
            return change(reply, body=b"")
        case "not_utf8":
            end = b',"\xff\xfe"]' if is_list else b',"note":"\xff\xfe"}'
            return change(reply, body=reply.body[:-1] + end)
        case "not_json":
            return change(reply, body=reply.body[: len(reply.body) // 2])
        case "not_object":
            return change(reply, body=b'{"data":%b}' % reply.body if is_list else b"[%b]" % reply.body)
        case "no_id":
            return change(reply, body=_each(reply.body, _without_id))
        case "odd_status":
            return change(reply, body=_each(reply.body, _with_odd_status))
        case _:
            raise AssertionError(f"{kind} does not spoil a reply")


_Fields = dict[str, msgspec.Raw]


def _each(body: bytes, change: Callable[[_Fields], None]) -> bytes:
    """Return the body with its object, or each object of its list, changed."""
    content = msgspec.json.decode(body, type=_Fields | list[_Fields])
    for fields in content if isinstance(content, list) else [content]:
        change(fields)
    return msgspec.json.encode(content)


def _without_id(fields: _Fields) -> None:
    del fields["id"]


def _with_odd_status(fields: _Fields) -> None:
    states = fields.get("request_status")
    if states is None:
        fields["status"] = msgspec.Raw(msgspec.json.encode(ODD_STATUS))
    else:
        odd = {custom_id: {"status": ODD_STATUS.upper()} for custom_id in msgspec.json.decode(states)}
        fields["request_status"] = msgspec.Raw(msgspec.json.encode(odd))
