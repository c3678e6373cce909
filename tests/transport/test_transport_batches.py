"""Batches: what is asked, and what each kind of answer means; the same on both transports."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from runner.records import Usage
from runner.transport.outcomes import (
    BatchEntry,
    Created,
    Done,
    Gone,
    Listing,
    Pending,
    Rejected,
    Statuses,
    Throttled,
    Transient,
    Unauthorised,
    Unsupported,
)
from tests.transport.conftest import Http

VERBS = ["CREATE", "LOOK", "RESULT", "LIST"]
ALL = pytest.mark.parametrize("verb", VERBS)
SHORT_S = 0.3
"""Of exchanges that must end by their deadline."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PAGE = b"<!DOCTYPE html><html><body><h1>Hello</h1></body></html>"
ENVELOPE = {"error": {"message": "No such thing.", "type": "some_error", "param": "a.b", "code": "some_code"}}
MAP = b'{ "row-1":{"status":"COMPLETED"},\n"row-2" : {"status":"RUNNING","x":[1,{}]} }'
ODD_IDS = ["a/b", "a b", "a?b=c", "a#b", "a%2Fb", "a%b", "Zoë", "a+b&c;d:e@f", "a\\b", "a..b", "a\nb"]


def batch(counts: bytes = b"2", status_map: bytes = MAP, batch_id: bytes = b'"batch_1"') -> bytes:
    return b'{"id":%s,"request_counts":%s,"created_at":1.5,"request_status":%s}' % (
        batch_id, counts, status_map,
    )  # fmt: skip


def asked(talk, http, exchange, **options):
    """The one request of an exchange."""

    async def conversation(transport, service):
        await exchange(transport)
        return service.received

    (request,) = talk(conversation, http.json([]), **options)
    return request


@pytest.mark.parametrize("path", ["", "/v1", "/gateway/openai/v1"])
def test_a_look_is_a_bare_get_with_the_key(
    talk: Callable[..., Any], http: type[Http], api_key: str, path: str
) -> None:
    calls = {
        "/batches/batch_1": lambda transport: transport.retrieve_batch("batch_1"),
        "/batches/batch_1/row-1": lambda transport: transport.batch_result("batch_1", "row-1"),
        "/batches?limit=200": lambda transport: transport.list_batches(None, 200),
        "/batches?limit=7&before_id=batch_1": lambda transport: transport.list_batches("batch_1", 7),
    }
    for target, call in calls.items():
        request = asked(talk, http, call, path=path)
        assert (request.method, request.target, request.body) == ("GET", path + target, b"")
        assert request.header("Authorization") == f"Bearer {api_key}"
        assert request.header("Accept") == "application/json"
        assert request.header("Idempotency-Key") is None


@pytest.mark.parametrize("odd", ODD_IDS)
def test_odd_ids_stay_one_segment_of_the_path_or_one_value(
    talk: Callable[..., Any], http: type[Http], odd: Any
) -> None:
    *path, look = asked(talk, http, lambda transport: transport.retrieve_batch(odd)).target.split("/")
    assert (path, unquote(look)) == (["", "v1", "batches"], odd)

    *path, one, other = asked(talk, http, lambda transport: transport.batch_result(odd, odd)).target.split(
        "/"
    )
    assert (path, unquote(one), unquote(other)) == (["", "v1", "batches"], odd, odd)

    target = asked(talk, http, lambda transport: transport.list_batches(odd, 25)).target
    path, _, query = target.partition("?")
    assert path == "/v1/batches"
    limit, value = query.split("&")
    assert (limit, unquote(value)) == ("limit=25", f"before_id={odd}")
    assert "#" not in target


COUNTS = {"2": 2, "0": 0, '{"total":3,"completed":1}': 3, "null": None, '"2"': None, "true": None, "-1": None,
          "1.5": None, "{}": None, "[]": None}  # fmt: skip


@pytest.mark.parametrize("counts", COUNTS)
def test_a_count_is_a_number_or_a_total_and_else_unknown(
    ask: Callable[..., Any], http: type[Http], counts: Any
) -> None:
    body = batch(counts.encode())
    assert ask("CREATE", http.raw(body)) == Created(id="batch_1", count=COUNTS[counts])


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    ("body", "batch_id"), [(b'{"id":"batch_1"}', "batch_1"), (b'{"id":7,"label":[],"created_at":{}}', "7")]
)
def test_a_batch_is_created_whatever_else_the_answer_lacks(
    ask: Callable[..., Any], http: type[Http], status: int, body: bytes, batch_id: str
) -> None:
    assert ask("CREATE", http.raw(body, status)) == Created(id=batch_id, count=None)


def test_the_map_of_statuses_is_handed_on_as_received(ask: Callable[..., Any], http: type[Http]) -> None:
    outcome = ask("LOOK", http.raw(b"\n" + batch() + b"\n"))
    assert isinstance(outcome, Statuses)
    assert bytes(outcome.status_map) == MAP


@pytest.mark.parametrize("body", [b'{"id":"batch_1","request_counts":2}', batch(status_map=b"null")])
def test_without_a_map_nothing_is_done_yet(ask: Callable[..., Any], http: type[Http], body: Any) -> None:
    assert bytes(ask("LOOK", http.raw(body)).status_map) == b"{}"


def test_a_map_of_100_000_requests_is_read(ask: Callable[..., Any], http: type[Http]) -> None:
    statuses = {f"row-{n}": {"status": "PENDING"} for n in range(100_000)}
    outcome = ask("LOOK", http.json({"request_status": statuses, "id": "batch_1"}))
    assert msgspec.json.decode(outcome.status_map) == statuses


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (batch(status_map=b'["row-1"]'), "not_object"),
        (batch(status_map=b'"PENDING"'), "not_object"),
        (batch(batch_id=b'"batch_2"'), "other_job"),
        (batch(batch_id=b"null"), "no_id"),
        (batch(status_map=b'{"row-1":'), "not_json"),
    ],
)
def test_a_look_that_does_not_tell_how_the_batch_stands_is_transient(
    ask: Callable[..., Any], http: type[Http], body: Any, cause: str
) -> None:
    outcome = ask("LOOK", http.raw(body))
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous, outcome.failure.status_code) == (cause, False, 200)
    assert len(outcome.failure.message) < 500


def test_a_map_that_python_wrote_is_mended(ask: Callable[..., Any], http: type[Http]) -> None:
    outcome = ask("LOOK", http.raw(b"\xef\xbb\xbf" + batch(status_map=b'{"row-1":{"status":NaN}}')))
    assert msgspec.json.decode(outcome.status_map) == {"row-1": {"status": None}}


@pytest.mark.parametrize(("word", "ended"), [("completed", "completed"), ("FAILED", "failed")])
def test_a_result_is_the_response_object_under_an_id_of_its_own(
    ask: Callable[..., Any], http: type[Http], word: str, ended: str
) -> None:
    body = {"id": "resp_9", "status": word, "usage": {"input_tokens": 3}}
    outcome = ask("RESULT", http.json(body, headers={"X-Request-Id": "req_1"}))
    assert isinstance(outcome, Done)
    assert (outcome.status, outcome.usage, outcome.reply.request_id) == (ended, Usage(input=3), "req_1")
    assert msgspec.json.decode(outcome.reply.body) == body


def test_a_result_that_is_not_there_yet_is_pending(ask: Callable[..., Any], http: type[Http]) -> None:
    assert ask("RESULT", http.json({"id": "resp_9", "status": "in_progress"})) == Pending()


ENTRIES = [
    {"id": "batch_2", "request_counts": 3, "created_at": 1_750_000_000, "label": "nightly-2"},
    {"id": 7, "request_counts": {"total": 9}, "created_at": "yesterday", "label": 3},
    {"id": "batch_1"},
]


@pytest.mark.parametrize("envelope", [ENTRIES, {"object": "list", "data": ENTRIES, "has_more": False}])
def test_a_list_is_an_array_bare_or_under_data(
    ask: Callable[..., Any], http: type[Http], envelope: Any
) -> None:
    assert ask("LIST", http.json(envelope)) == Listing(
        (
            BatchEntry("batch_2", "nightly-2", 1_750_000_000.0, 3),
            BatchEntry("7", None, None, 9),
            BatchEntry("batch_1", None, None, None),
        )
    )


@pytest.mark.parametrize("created", [True, -1, 10**400, 1e300, None, []])
def test_a_time_that_is_none_is_unknown(ask: Callable[..., Any], http: type[Http], created: Any) -> None:
    (entry,) = ask("LIST", http.json([{"id": "batch_1", "created_at": created}])).batches
    assert entry.created_at is None


@pytest.mark.parametrize("empty", [[], {"data": []}, None, {"data": None}])
def test_a_list_may_be_empty(ask: Callable[..., Any], http: type[Http], empty: Any) -> None:
    assert ask("LIST", http.json(empty)) == Listing(())


@pytest.mark.parametrize(
    "body",
    [{}, {"data": {}}, {"data": [3]}, ["batch_1"], [{"id": None}], [{"id": ""}],
     [{"id": ".."}], [{"label": "x"}], [{"id": []}], [[]], 7, "batch_1"],
)  # fmt: skip
def test_json_of_another_shape_is_a_list_that_is_not_to_be_had(
    ask: Callable[..., Any], http: type[Http], body: Any
) -> None:
    outcome = ask("LIST", http.json(body))
    assert isinstance(outcome, Unsupported)
    assert (outcome.failure.type, outcome.failure.status_code) == ("not_object", 200)


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("body", [json.dumps(ENVELOPE).encode(), PAGE, b"", b"404 page not found"])
def test_a_service_that_does_not_list_says_so_in_any_form(
    ask: Callable[..., Any], http: type[Http], status: int, body: Any
) -> None:
    outcome = ask("LIST", http.raw(body, status))
    assert isinstance(outcome, Unsupported)
    assert outcome.failure.status_code == status


@pytest.mark.parametrize("status", [400, 410, 422])
def test_any_no_of_the_services_own_is_a_list_that_is_not_to_be_had(
    ask: Callable[..., Any], http: type[Http], status: int
) -> None:
    assert isinstance(ask("LIST", http.json(ENVELOPE, status)), Unsupported)
    assert isinstance(ask("LIST", http.raw(PAGE, status)), Transient)


@pytest.mark.parametrize("status", [400, 404, 405, 410, 413, 422])
def test_a_refused_batch_is_rejected_and_what_is_wrong_in_it_named(
    ask: Callable[..., Any], http: type[Http], status: int
) -> None:
    outcome = ask("CREATE", http.json(ENVELOPE, status))
    assert isinstance(outcome, Rejected)
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)
    assert (outcome.param, outcome.has_envelope) == ("a.b", True)


@pytest.mark.parametrize("verb", ["CREATE", "POST", "CANCEL"])
@pytest.mark.parametrize(
    "body", [{"error": {"message": "no", "param": 3}}, {"error": "no"}, {"param": "x"}, {"error": {"x": 1}}]
)
def test_only_an_envelope_names_what_is_wrong(
    ask: Callable[..., Any], http: type[Http], verb: str, body: dict[str, Any]
) -> None:
    assert ask(verb, http.json(body, 400)).param is None


@pytest.mark.parametrize("verb", ["POST", "CANCEL"])
def test_other_refusals_name_what_is_wrong_too(ask: Callable[..., Any], http: type[Http], verb: str) -> None:
    assert ask(verb, http.json(ENVELOPE, 400)).param == "a.b"


@pytest.mark.parametrize("body", [PAGE, b"too large", b""])
def test_a_body_too_large_is_rejected_whoever_says_so(
    ask: Callable[..., Any], http: type[Http], body: Any
) -> None:
    outcome = ask("CREATE", http.raw(body, 413))
    assert isinstance(outcome, Rejected)
    assert not outcome.has_envelope


@pytest.mark.parametrize("verb", ["LOOK", "RESULT"])
@pytest.mark.parametrize("status", [400, 404, 405, 410, 422])
def test_a_refused_look_means_that_it_is_gone(
    ask: Callable[..., Any], http: type[Http], verb: str, status: int
) -> None:
    outcome = ask(verb, http.json(ENVELOPE, status))
    assert isinstance(outcome, Gone)
    assert (outcome.failure.message, outcome.failure.status_code) == ("No such thing.", status)


@pytest.mark.parametrize("verb", ["CREATE", "LOOK", "RESULT"])
@pytest.mark.parametrize("status", [403, 404, 405, 410])
def test_a_proxys_page_says_nothing_of_the_batch_or_the_key(
    ask: Callable[..., Any], http: type[Http], verb: str, status: int
) -> None:
    outcome = ask(verb, http.raw(PAGE, status))
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous) == (str(status), False)


@ALL
@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_is_unauthorised(
    ask: Callable[..., Any], http: type[Http], verb: Any, status: int
) -> None:
    assert isinstance(ask(verb, http.json(ENVELOPE, status)), Unauthorised)


@ALL
@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_service_that_wants_fewer_requests_is_throttled(
    ask: Callable[..., Any], http: type[Http], verb: Any, status: int
) -> None:
    outcome = ask(verb, http.json(ENVELOPE, status, {"Retry-After": "7"}))
    assert isinstance(outcome, Throttled)
    assert (outcome.cause, outcome.wait_s) == (str(status), 7.0)


@ALL
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_status_that_may_pass_is_transient(
    ask: Callable[..., Any], http: type[Http], verb: Any, status: int
) -> None:
    outcome = ask(verb, http.json(ENVELOPE, status))
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.is_spoken) == (str(status), True)
    if verb == "CREATE":
        assert outcome.ambiguous == (status != 500)


WIRE = {
    "closed at once": (b"", "close", "reset"),
    "reset at once": (b"", "reset", "reset"),
    "half a header": (HEAD + b"Content-Le", "close", "reset"),
    "no HTTP at all": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close", "not_http"),
    "a cut body": (HEAD + b'Content-Length: 100\r\n\r\n{"id":"r"', "close", "cut"),
    "a body cut by a reset": (HEAD + b'Content-Length: 100\r\n\r\n{"id":"r"', "reset", "cut"),
    "silence": (b"", "hang", "timeout"),
    "a body that stops half way": (HEAD + b"Content-Length: 100\r\n\r\n{", "hang", "timeout"),
}


@ALL
@pytest.mark.parametrize("name", WIRE)
def test_a_fault_of_the_wire_is_transient_with_its_cause(
    ask: Callable[..., Any], http: type[Http], verb: Any, name: Any
) -> None:
    data, after, cause = WIRE[name]
    options = {"timeout_s": SHORT_S, "upload_s": SHORT_S} if cause == "timeout" else {}
    outcome = ask(verb, http.step(data, after), **options)
    assert isinstance(outcome, Transient)
    assert outcome.cause == outcome.failure.type == cause
    assert outcome.failure.message
    if verb == "CREATE":
        assert outcome.ambiguous


BODIES = {
    "a web page": (PAGE, "html"),
    "empty": (b"", "empty"),
    "not UTF-8": (b'{"id":"batch_1","t":"\xff"}', "not_utf8"),
    "text": (b"upstream connect error", "not_json"),
    "half an object": (b'{"id":"batch_1","request_status":{', "not_json"),
    "a number": (b"17", "not_object"),
    "null": (b"null", "not_object"),
    "a list of numbers": (b"[17]", "not_object"),
}


@ALL
@pytest.mark.parametrize("name", BODIES)
def test_a_success_that_cannot_be_read_is_transient_and_leaves_a_batch_in_doubt(
    ask: Callable[..., Any], http: type[Http], verb: Any, name: Any
) -> None:
    body, cause = BODIES[name]
    outcome = ask(verb, http.raw(body))
    if verb == "LIST" and cause == "not_object":
        return  # a test of its own
    assert isinstance(outcome, Transient)
    assert (outcome.cause, outcome.ambiguous) == (cause, verb == "CREATE")
    assert len(outcome.failure.message) < 500


@ALL
def test_a_redirect_is_not_followed(ask: Callable[..., Any], http: type[Http], verb: Any) -> None:
    outcome = ask(verb, http.raw(b"", 307, {"Location": "http://127.0.0.1/elsewhere"}))
    assert isinstance(outcome, Transient)
    assert outcome.cause == "redirect"


@ALL
def test_the_key_shows_in_no_outcome(
    ask: Callable[..., Any], http: type[Http], api_key: str, verb: Any
) -> None:
    for status in (200, 400, 401, 404, 500):
        outcome = ask(verb, http.json({"error": {"message": f"key {api_key}", "param": api_key}}, status))
        told = msgspec.json.encode(outcome).decode() + repr(outcome)
        assert api_key not in told.replace("\\/", "/")
