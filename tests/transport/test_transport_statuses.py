"""Statuses, error envelopes, redirects and Retry-After: what each asks of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from runner.transport.outcomes import Gone, Rejected, Throttled, Transient, Unauthorised
from tests.transport.conftest import Http

VERBS = pytest.mark.parametrize("verb", ["POST", "GET"])
REFUSED = [400, 404, 405, 410, 413, 422]
UNAUTHORISED = [401, 402, 403]
THROTTLED = [429, 529]
TRANSIENT = {
    408: True, 409: True, 425: False, 500: False, 501: False, 502: True, 503: False, 504: True, 520: True,
}  # fmt: skip
"""Status → whether a POST that was answered so may have been accepted."""
ENVELOPE = {"error": {"message": "No such thing.", "type": "some_error", "param": None, "code": "some_code"}}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refused_post_is_rejected_with_the_words_of_the_service(
    ask: Callable[..., Any], http: type[Http], status: Any
) -> None:
    outcome = ask("POST", http.json(ENVELOPE, status, {"X-Request-Id": "req_1"}))
    assert isinstance(outcome, Rejected)
    assert outcome.has_envelope
    failure = outcome.failure
    assert (failure.message, failure.type, failure.code) == ("No such thing.", "some_error", "some_code")
    assert failure.status_code == status
    assert (outcome.reply.status_code, outcome.reply.request_id) == (status, "req_1")


@pytest.mark.parametrize("status", REFUSED)
def test_a_refused_get_means_that_the_job_is_gone(
    ask: Callable[..., Any], http: type[Http], status: Any
) -> None:
    outcome = ask("GET", http.json(ENVELOPE, status))
    assert isinstance(outcome, Gone)
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)


@VERBS
@pytest.mark.parametrize("status", UNAUTHORISED)
def test_a_refused_key_is_unauthorised(
    ask: Callable[..., Any], http: type[Http], verb: Any, status: Any
) -> None:
    outcome = ask(verb, http.json(ENVELOPE, status))
    assert isinstance(outcome, Unauthorised)
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)


@VERBS
@pytest.mark.parametrize("status", THROTTLED)
@pytest.mark.parametrize("wait", [None, "7"])
def test_too_many_requests_is_throttled(
    ask: Callable[..., Any], http: type[Http], verb: Any, status: Any, wait: str | None
) -> None:
    outcome = ask(verb, http.json(ENVELOPE, status, {"Retry-After": wait} if wait else {}))
    assert isinstance(outcome, Throttled)
    assert (outcome.cause, outcome.wait_s) == (str(status), 7.0 if wait else None)
    assert outcome.failure.message == "No such thing."


@VERBS
@pytest.mark.parametrize("status", TRANSIENT)
def test_a_status_that_may_pass_is_transient(
    ask: Callable[..., Any], http: type[Http], verb: Any, status: Any
) -> None:
    outcome = ask(verb, http.json(ENVELOPE, status))
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.wait_s) == (str(status), None)
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)
    if verb == "POST":
        assert outcome.ambiguous is TRANSIENT[status]


@VERBS
def test_an_unavailable_service_that_names_a_time_is_throttled(
    ask: Callable[..., Any], http: type[Http], verb: Any
) -> None:
    outcome = ask(verb, http.json(ENVELOPE, 503, {"Retry-After": "7"}))
    assert isinstance(outcome, Throttled)
    assert (outcome.cause, outcome.wait_s) == ("503", 7.0)


@VERBS
@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_a_transient_status_keeps_the_wait_that_was_asked_for(
    ask: Callable[..., Any], http: type[Http], verb: Any, status: int
) -> None:
    outcome = ask(verb, http.json(ENVELOPE, status, {"Retry-After": "7"}))
    assert isinstance(outcome, Transient)
    assert outcome.wait_s == 7.0


@VERBS
def test_an_account_without_quota_is_unauthorised_not_throttled(
    ask: Callable[..., Any], http: type[Http], verb: Any
) -> None:
    error = {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}
    assert isinstance(ask(verb, http.json(error, 429, {"Retry-After": "1"})), Unauthorised)


ENVELOPES = {
    "openai": (b'{"error":{"message":"bad","type":"t","param":"p","code":"c"}}', "bad", "t", "c"),
    "a number as code": (b'{"error":{"message":"bad","code":42}}', "bad", "error", 42),
    "error as text": (b'{"error":"bad"}', "bad", "error", None),
    "detail": (b'{"detail":"bad"}', "bad", "error", None),
    "detail as a list": (b'{"detail":[{"msg":"bad"}]}', '[{"msg":"bad"}]', "error", None),
    "message": (b'{"message":"bad","code":"c"}', "bad", "error", "c"),
    "error null beside a message": (b'{"error":null,"message":"bad"}', "bad", "error", None),
    "pretty printed": (b'{\n  "error": {\n    "message": "bad"\n  }\n}\n', "bad", "error", None),
    "an unknown object": (b'{"oops":1}', 'HTTP 400: {"oops":1}', "error", None),
    "a number as message": (b'{"error":{"message":17}}', "17", "error", None),
}  # fmt: skip


@pytest.mark.parametrize("name", ENVELOPES)
def test_the_message_is_found_in_any_envelope(ask: Callable[..., Any], http: type[Http], name: Any) -> None:
    body, message, kind, code = ENVELOPES[name]
    outcome = ask("POST", http.raw(body, 400))
    assert isinstance(outcome, Rejected)
    assert (outcome.failure.message, outcome.failure.type, outcome.failure.code) == (message, kind, code)
    assert outcome.has_envelope == (b'"error":{' in body or b'"error": {' in body or b'"error":"' in body)
    assert b"\n" not in bytes(outcome.reply.body)


NO_ENVELOPE = {
    "web page": (b"<html><h1>Not  Found</h1></html>", "HTTP 422: <html><h1>Not Found</h1></html>"),
    "text": (b"404 page not found\n", "HTTP 422: 404 page not found"),
    "empty": (b"", "HTTP 422: an empty body"),
    "list": (b'["bad"]', 'HTTP 422: ["bad"]'),
    "not UTF-8": (b"\xff", "HTTP 422: \N{REPLACEMENT CHARACTER}"),
}


@pytest.mark.parametrize("name", NO_ENVELOPE)
def test_without_an_envelope_the_message_quotes_what_came(
    ask: Callable[..., Any], http: type[Http], name: Any
) -> None:
    body, message = NO_ENVELOPE[name]
    outcome = ask("POST", http.raw(body, 422, {"Content-Type": "text/html"}))
    assert isinstance(outcome, Rejected)
    assert outcome.failure.message == message
    assert not outcome.has_envelope
    assert outcome.reply is None


@VERBS
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(
    talk: Callable[..., Any], http: type[Http], verb: Any, status: int
) -> None:
    async def conversation(transport, service):
        elsewhere = type(service)((http.job("completed"),))
        async with elsewhere:
            target = f"{elsewhere.root}/v1/responses"
            service.steps = (http.raw(b"", status, {"Location": target}),)
            if verb == "POST":
                outcome = await transport.submit(b"{}", "key-1")
            else:
                outcome = await transport.retrieve("resp_1")
        return outcome, target, len(service.received), elsewhere.connections

    outcome, target, requests, strangers = talk(conversation)
    assert isinstance(outcome, Transient)
    assert outcome.cause == "redirect"
    assert not outcome.ambiguous
    assert target in outcome.failure.message
    assert outcome.failure.status_code == status
    assert (requests, strangers) == (1, 0)


def test_an_answer_that_changes_the_protocol_is_not_called_a_redirect(
    ask: Callable[..., Any], http: type[Http]
) -> None:
    step = http.step(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "close"
    )
    outcome = ask("POST", step)
    assert isinstance(outcome, Transient)
    assert "redirect" not in outcome.failure.message


WAITS = {
    "seconds": ({"Retry-After": "30"}, 30.0),
    "a fraction": ({"Retry-After": "0.25"}, 0.25),
    "negative": ({"Retry-After": "-5"}, 0.0),
    "a date gone by": ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    "garbage": ({"Retry-After": "soon"}, None),
    "inf": ({"Retry-After": "inf"}, None),
    "nan": ({"Retry-After": "nan"}, None),
    "empty": ({"Retry-After": ""}, None),
    "milliseconds": ({"Retry-After-Ms": "1500"}, 1.5),
    "milliseconds first": ({"Retry-After": "9", "Retry-After-Ms": "1500"}, 1.5),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_wait_is_read_from_the_headers_in_any_form(
    ask: Callable[..., Any], http: type[Http], name: Any
) -> None:
    headers, wait_s = WAITS[name]
    assert ask("POST", http.json(ENVELOPE, 429, headers)).wait_s == wait_s


def test_a_date_to_come_is_a_wait_from_now(ask: Callable[..., Any], http: type[Http]) -> None:
    wait_s = ask("GET", http.json(ENVELOPE, 429, {"Retry-After": "Fri, 31 Dec 2199 23:59:59 GMT"})).wait_s
    assert 365 * 86_400 < wait_s < 300 * 366 * 86_400


HOUR_S = 3600
DATED = pytest.mark.parametrize("verb", ["POST", "GET", "CANCEL"])


@DATED
@pytest.mark.parametrize("skew_s", [-HOUR_S, HOUR_S])
def test_a_date_of_a_service_whose_clock_is_off_is_a_wait_by_that_clock(
    ask: Callable[..., Any], http: type[Http], verb: Any, skew_s: Any
) -> None:
    there = time.time() + skew_s
    headers = {"Date": formatdate(there, usegmt=True), "Retry-After": formatdate(there + 30, usegmt=True)}
    outcome = ask(verb, http.json(ENVELOPE, 429, headers))
    assert isinstance(outcome, Throttled)
    assert outcome.wait_s == 30.0


@DATED
def test_a_date_of_a_service_that_tells_no_time_is_a_wait_by_the_local_clock(
    ask: Callable[..., Any], http: type[Http], verb: Any
) -> None:
    said = formatdate(time.time() + HOUR_S, usegmt=True)
    wait_s = ask(verb, http.json(ENVELOPE, 429, {"Retry-After": said})).wait_s
    assert HOUR_S / 2 < wait_s <= HOUR_S


@pytest.mark.parametrize("status", [403, 404, 405, 410])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("body", [b"404 page not found", b"<html>no</html>", b"", b'["no"]'])
def test_a_proxys_page_says_nothing_of_the_job_or_the_key(
    ask: Callable[..., Any], http: type[Http], status: int, method: str, body: bytes
) -> None:
    outcome = ask(method, http.raw(body, status, {"Content-Type": "text/plain"}))
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous, outcome.is_spoken) == (str(status), False, False)


def test_a_job_that_is_unknown_in_json_of_any_shape_is_gone(
    ask: Callable[..., Any], http: type[Http]
) -> None:
    for body in (b'{"detail":"Not Found"}', b'{"error":{"message":"no such response"}}'):
        assert isinstance(ask("GET", http.raw(body, 404)), Gone)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_an_error_in_the_apis_own_json_is_the_service_speaking(
    ask: Callable[..., Any], http: type[Http], method: str
) -> None:
    spoken = ask(method, http.raw(b'{"error":{"message":"oops"}}', 500))
    assert spoken.is_spoken
    assert not ask(method, http.raw(b"<html>Bad Gateway</html>", 502)).is_spoken
