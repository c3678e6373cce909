"""Statuses, error envelopes, redirects and Retry-After: the outcome of each."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from runner.transport import Transport
from runner.transport.outcomes import (
    Gone,
    Rejected,
    RetrieveOutcome,
    SubmitOutcome,
    Throttled,
    Transient,
    Unauthorised,
)
from tests.transport.scripted import Service, Step, as_json, job, raw
from tests.transport.talking import Ask, Talk, Verb

VERBS = pytest.mark.parametrize("verb", ["POST", "GET"])
REFUSED = [400, 404, 405, 410, 413, 422]
UNAUTHORISED = [401, 402, 403]
THROTTLED = [429, 529]
TRANSIENT = {
    408: True, 409: True, 425: False, 500: False, 501: False, 502: True, 503: False, 504: True, 520: True,
}  # fmt: skip
"""Whether a POST that was answered with this status may have been accepted."""
ENVELOPE = {"error": {"message": "No such thing.", "type": "some_error", "param": None, "code": "some_code"}}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refused_post_is_rejected_with_the_words_of_the_service(ask: Ask, status: int) -> None:
    outcome = ask.expect(Rejected, "POST", as_json(ENVELOPE, status, {"X-Request-Id": "req_1"}))
    assert outcome.has_envelope
    failure = outcome.failure
    assert (failure.message, failure.type, failure.code) == ("No such thing.", "some_error", "some_code")
    assert failure.status_code == status
    assert outcome.reply is not None
    assert (outcome.reply.status_code, outcome.reply.request_id) == (status, "req_1")


@pytest.mark.parametrize("status", REFUSED)
def test_a_refused_get_means_that_the_job_is_gone(ask: Ask, status: int) -> None:
    outcome = ask.expect(Gone, "GET", as_json(ENVELOPE, status))
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)


@VERBS
@pytest.mark.parametrize("status", UNAUTHORISED)
def test_a_refused_key_is_unauthorised(ask: Ask, verb: Verb, status: int) -> None:
    outcome = ask.expect(Unauthorised, verb, as_json(ENVELOPE, status))
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)


@VERBS
@pytest.mark.parametrize("status", THROTTLED)
@pytest.mark.parametrize("wait", [None, "7"])
def test_too_many_requests_is_throttled(ask: Ask, verb: Verb, status: int, wait: str | None) -> None:
    outcome = ask.expect(Throttled, verb, as_json(ENVELOPE, status, {"Retry-After": wait} if wait else {}))
    assert (outcome.cause, outcome.wait_s) == (str(status), 7.0 if wait else None)
    assert outcome.failure.message == "No such thing."


@VERBS
@pytest.mark.parametrize("status", TRANSIENT)
def test_a_status_that_may_pass_is_transient(ask: Ask, verb: Verb, status: int) -> None:
    outcome = ask.expect(Transient, verb, as_json(ENVELOPE, status))
    assert (outcome.cause, outcome.wait_s) == (str(status), None)
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)
    if verb == "POST":
        assert outcome.ambiguous is TRANSIENT[status]


@VERBS
def test_an_unavailable_service_that_names_a_time_is_throttled(ask: Ask, verb: Verb) -> None:
    outcome = ask.expect(Throttled, verb, as_json(ENVELOPE, 503, {"Retry-After": "7"}))
    assert (outcome.cause, outcome.wait_s) == ("503", 7.0)


@VERBS
@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_a_transient_status_keeps_the_wait_that_was_asked_for(ask: Ask, verb: Verb, status: int) -> None:
    outcome = ask.expect(Transient, verb, as_json(ENVELOPE, status, {"Retry-After": "7"}))
    assert outcome.wait_s == 7.0


@VERBS
def test_an_account_without_quota_is_unauthorised_and_not_throttled(ask: Ask, verb: Verb) -> None:
    error = {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}
    assert isinstance(ask(verb, as_json(error, 429, {"Retry-After": "1"})), Unauthorised)


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
def test_the_message_is_found_in_any_envelope(ask: Ask, name: str) -> None:
    body, message, kind, code = ENVELOPES[name]
    outcome = ask.expect(Rejected, "POST", raw(body, 400))
    assert (outcome.failure.message, outcome.failure.type, outcome.failure.code) == (message, kind, code)
    assert outcome.has_envelope == (b'"error":{' in body or b'"error": {' in body or b'"error":"' in body)
    assert outcome.reply is not None
    assert b"\n" not in bytes(outcome.reply.body)


NO_ENVELOPE = {
    "web page": (b"<html><h1>Not  Found</h1></html>", "HTTP 422: <html><h1>Not Found</h1></html>"),
    "text": (b"404 page not found\n", "HTTP 422: 404 page not found"),
    "empty": (b"", "HTTP 422: an empty body"),
    "list": (b'["bad"]', 'HTTP 422: ["bad"]'),
    "not UTF-8": (b"\xff", "HTTP 422: \N{REPLACEMENT CHARACTER}"),
}


@pytest.mark.parametrize("name", NO_ENVELOPE)
def test_the_message_quotes_an_answer_without_an_envelope(ask: Ask, name: str) -> None:
    body, message = NO_ENVELOPE[name]
    outcome = ask.expect(Rejected, "POST", raw(body, 422, {"Content-Type": "text/html"}))
    assert outcome.failure.message == message
    assert not outcome.has_envelope
    assert outcome.reply is None


@VERBS
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(
    talk: Talk, verb: Verb, status: int
) -> None:
    async def conversation(
        transport: Transport, service: Service
    ) -> tuple[SubmitOutcome | RetrieveOutcome, str, int, int]:
        elsewhere = Service((job("completed"),))
        async with elsewhere:
            target = f"{elsewhere.root}/v1/responses"
            service.steps = (raw(b"", status, {"Location": target}),)
            if verb == "POST":
                submitted = await transport.submit(b"{}", "key-1")
                return submitted, target, len(service.received), elsewhere.connections
            retrieved = await transport.retrieve("resp_1")
            return retrieved, target, len(service.received), elsewhere.connections

    outcome, target, requests, strangers = talk(conversation)
    assert isinstance(outcome, Transient)
    assert outcome.cause == "redirect"
    assert not outcome.ambiguous
    assert target in outcome.failure.message
    assert outcome.failure.status_code == status
    assert (requests, strangers) == (1, 0)


def test_an_answer_that_changes_the_protocol_is_not_called_a_redirect(ask: Ask) -> None:
    step = Step(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "close")
    outcome = ask.expect(Transient, "POST", step)
    assert "redirect" not in outcome.failure.message


WAITS = {
    "seconds": ({"Retry-After": "30"}, 30.0),
    "a fraction": ({"Retry-After": "0.25"}, 0.25),
    "negative": ({"Retry-After": "-5"}, 0.0),
    "a date in the past": ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    "garbage": ({"Retry-After": "soon"}, None),
    "inf": ({"Retry-After": "inf"}, None),
    "nan": ({"Retry-After": "nan"}, None),
    "empty": ({"Retry-After": ""}, None),
    "milliseconds": ({"Retry-After-Ms": "1500"}, 1.5),
    "milliseconds first": ({"Retry-After": "9", "Retry-After-Ms": "1500"}, 1.5),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_wait_is_read_from_the_headers_in_any_form(ask: Ask, name: str) -> None:
    headers, wait_s = WAITS[name]
    assert ask.expect(Throttled, "POST", as_json(ENVELOPE, 429, headers)).wait_s == wait_s


def test_a_date_in_the_future_is_a_wait_from_now(ask: Ask) -> None:
    wait_s = ask.expect(
        Throttled, "GET", as_json(ENVELOPE, 429, {"Retry-After": "Fri, 31 Dec 2199 23:59:59 GMT"})
    ).wait_s
    assert wait_s is not None
    assert 365 * 86_400 < wait_s < 300 * 366 * 86_400


HOUR_S = 3600
DATED = pytest.mark.parametrize("verb", ["POST", "GET", "CANCEL"])


@DATED
@pytest.mark.parametrize("skew_s", [-HOUR_S, HOUR_S])
def test_a_date_of_a_service_with_a_wrong_clock_is_a_wait_by_that_clock(
    ask: Ask, verb: Verb, skew_s: int
) -> None:
    there = time.time() + skew_s
    headers = {"Date": formatdate(there, usegmt=True), "Retry-After": formatdate(there + 30, usegmt=True)}
    outcome = ask.expect(Throttled, verb, as_json(ENVELOPE, 429, headers))
    assert outcome.wait_s == 30.0


@DATED
def test_a_date_of_a_service_that_sends_no_time_is_a_wait_by_the_local_clock(ask: Ask, verb: Verb) -> None:
    said = formatdate(time.time() + HOUR_S, usegmt=True)
    wait_s = ask.expect(Throttled, verb, as_json(ENVELOPE, 429, {"Retry-After": said})).wait_s
    assert wait_s is not None
    assert HOUR_S / 2 < wait_s <= HOUR_S


@pytest.mark.parametrize("status", [403, 404, 405, 410])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("body", [b"404 page not found", b"<html>no</html>", b"", b'["no"]'])
def test_the_page_of_a_proxy_says_nothing_about_the_job_or_the_key(
    ask: Ask, status: int, method: Verb, body: bytes
) -> None:
    outcome = ask.expect(Transient, method, raw(body, status, {"Content-Type": "text/plain"}))
    assert (outcome.cause, outcome.ambiguous, outcome.is_spoken) == (str(status), False, False)


def test_a_job_is_gone_if_a_404_says_so_in_json_of_any_shape(ask: Ask) -> None:
    for body in (b'{"detail":"Not Found"}', b'{"error":{"message":"no such response"}}'):
        assert isinstance(ask("GET", raw(body, 404)), Gone)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_an_error_in_the_json_of_the_api_comes_from_the_service(ask: Ask, method: Verb) -> None:
    spoken = ask.expect(Transient, method, raw(b'{"error":{"message":"oops"}}', 500))
    assert spoken.is_spoken
    assert not ask.expect(Transient, method, raw(b"<html>Bad Gateway</html>", 502)).is_spoken
