"""Reading answers, without a network: whatever comes is one of the typed outcomes."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.records import Usage
from runner.transport.outcomes import (
    Accepted,
    AnyOutcome,
    BatchOutcome,
    CancelOutcome,
    CreateOutcome,
    Done,
    ListOutcome,
    Rejected,
    RetrieveOutcome,
    SubmitOutcome,
)
from runner.transport.reading import Reader, read_cancel, read_retrieve, read_submit, read_usage
from runner.transport.reading_batches import read_create, read_list, read_statuses
from runner.transport.retry_after import read_retry_after

NOW = 1_750_000_000.0
STATUSES = st.integers(100, 599)
WORDS = st.sampled_from(["completed", "FAILED", "incomplete", "Expired", "cancelled", "queued", "other", ""])
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=True) | st.text()
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=5,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text() | SCALARS,
        "status": WORDS | SCALARS,
        "usage": ANYTHING,
        "error": ANYTHING,
        "incomplete_details": ANYTHING,
        "message": ANYTHING,
        "detail": ANYTHING,
        "output": ANYTHING,
        "request_counts": ANYTHING,
        "request_status": ANYTHING,
        "data": ANYTHING,
        "label": ANYTHING,
        "created_at": ANYTHING,
    },
)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "x-request-id", "location"]),
    st.text()
    | st.floats().map(str)
    | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT")),
)


def written(value: object, indent: int | None, *, ascii_only: bool, bom: bool) -> bytes:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    return (b"\xef\xbb\xbf" if bom else b"") + text.encode("utf-8", "surrogatepass")


JSON = st.builds(
    written,
    OBJECTS | st.lists(OBJECTS) | ANYTHING,
    st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    bom=st.booleans(),
)
BODIES = st.binary() | JSON | JSON.flatmap(lambda whole: st.integers(0, len(whole)).map(lambda n: whole[:n]))


def is_a_line_of_json(body: bytes) -> bool:
    msgspec.json.decode(body)
    return b"\n" not in body and b"\r" not in body


@settings(deadline=None, max_examples=200)
@given(status=STATUSES, headers=HEADERS, body=BODIES)
def test_any_answer_to_a_post_is_a_typed_outcome(status: int, headers: dict[str, str], body: bytes) -> None:
    outcome = read_submit(status, headers, body, NOW)
    assert isinstance(outcome, get_args(SubmitOutcome))
    assert msgspec.json.encode(outcome)
    if isinstance(outcome, Accepted):
        assert outcome.id
    if isinstance(outcome, Done | Rejected) and outcome.reply:
        assert is_a_line_of_json(bytes(outcome.reply.body))


@settings(deadline=None, max_examples=200)
@given(status=STATUSES, headers=HEADERS, body=BODIES)
def test_any_answer_to_a_get_is_a_typed_outcome(status: int, headers: dict[str, str], body: bytes) -> None:
    outcome = read_retrieve(status, headers, body, NOW)
    assert isinstance(outcome, get_args(RetrieveOutcome))
    assert msgspec.json.encode(outcome)
    if isinstance(outcome, Done):
        assert is_a_line_of_json(bytes(outcome.reply.body))


@settings(deadline=None, max_examples=200)
@given(status=STATUSES, headers=HEADERS, body=BODIES)
def test_any_answer_to_a_cancellation_is_a_typed_outcome(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    outcome = read_cancel(status, headers, body, NOW)
    assert isinstance(outcome, get_args(CancelOutcome))
    assert msgspec.json.encode(outcome)
    if isinstance(outcome, Done | Rejected) and outcome.reply:
        assert is_a_line_of_json(bytes(outcome.reply.body))


BATCH_READERS: tuple[tuple[Reader[AnyOutcome], tuple[type, ...]], ...] = (
    (read_create, get_args(CreateOutcome)),
    (read_statuses, get_args(BatchOutcome)),
    (read_list, get_args(ListOutcome)),
)


@settings(deadline=None, max_examples=300)
@given(reader=st.sampled_from(BATCH_READERS), status=STATUSES, headers=HEADERS, body=BODIES)
def test_any_answer_about_batches_is_a_typed_outcome(
    reader: tuple[Reader[AnyOutcome], tuple[type, ...]], status: int, headers: dict[str, str], body: bytes
) -> None:
    read, kinds = reader
    outcome = read(status, headers, body, NOW)
    assert isinstance(outcome, kinds)
    assert msgspec.json.encode(outcome)


@settings(deadline=None)
@given(
    # Dots alone are not an id: they would change the path of the URL.
    job_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda it: it not in (".", "..")
    ),
    output=ANYTHING,
    indent=st.sampled_from([None, 2]),
)
def test_a_done_job_is_never_lost_whatever_its_output(job_id: str, output: Any, indent: int | None) -> None:
    finite = msgspec.json.decode(msgspec.json.encode({"output": output}, order=None))
    body = json.dumps({"id": job_id, "status": "completed", **finite}, indent=indent).encode()
    outcome = read_retrieve(200, {}, body, NOW)
    assert isinstance(outcome, Done)
    assert json.loads(bytes(outcome.reply.body)) == json.loads(body)


@settings(deadline=None)
@given(said=st.text() | st.floats().map(str) | st.integers().map(str), date=st.none() | st.text())
def test_a_wait_is_a_finite_time_to_come_or_none(said: str, date: str | None) -> None:
    for name in ("retry-after", "retry-after-ms"):
        wait_s = read_retry_after({name: said} | ({} if date is None else {"date": date}), NOW)
        assert wait_s is None or 0.0 <= wait_s < float("inf")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
@pytest.mark.parametrize(
    "said",
    [
        "Sun, 15 Jun 2025 15:07:10 GMT",
        "Sunday, 15-Jun-25 15:07:10 GMT",
        "Sun Jun 15 15:07:10 2025",
        "Sun, 15 Jun 2025 15:07:10 -0000",
    ],
)
def test_a_date_in_any_form_of_http_is_universal_time(
    monkeypatch: pytest.MonkeyPatch, zone: str, said: str
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", zone)
        time.tzset()
        wait_s = read_retry_after({"retry-after": said}, NOW)
    time.tzset()
    assert wait_s == 30.0


@settings(deadline=None)
@given(skew_s=st.integers(-(10**9), 10**9), wait_s=st.integers(-1000, 100_000))
def test_a_date_is_a_wait_by_the_clock_of_the_service_however_wrong_that_is(skew_s: int, wait_s: int) -> None:
    sent = NOW + skew_s
    headers = {"date": formatdate(sent, usegmt=True), "retry-after": formatdate(sent + wait_s, usegmt=True)}
    assert read_retry_after(headers, NOW) == max(wait_s, 0)


@pytest.mark.parametrize("date", [None, "", "soon", "1750003600", "Sun, 99 Jun 2025 15:06:40 GMT"])
def test_a_date_is_a_wait_by_the_local_clock_if_the_service_sends_no_time(date: str | None) -> None:
    headers = {"retry-after": formatdate(NOW + 30, usegmt=True)} | ({} if date is None else {"date": date})
    assert read_retry_after(headers, NOW) == 30.0


@pytest.mark.parametrize("said", ["7", "7.5", "-1"])
def test_seconds_are_seconds_whatever_time_the_service_sends(said: str) -> None:
    headers = {"retry-after": said, "date": formatdate(NOW + 3600, usegmt=True)}
    assert read_retry_after(headers, NOW) == max(float(said), 0.0)


def test_unreadable_milliseconds_leave_the_seconds() -> None:
    assert read_retry_after({"retry-after-ms": "soon", "retry-after": "7"}, NOW) == 7.0


USAGES = {
    "whole": (
        (
            b'{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,'
            b'"output_tokens_details":{"reasoning_tokens":2}}'
        ),
        Usage(input=9, cached=4, output=5, reasoning=2),
    ),
    "nulls": (b'{"input_tokens":null,"output_tokens":5,"input_tokens_details":null}', Usage(output=5)),
    "numbers as text": (b'{"input_tokens":"9","output_tokens":5.0}', Usage(input=9, output=5)),
    "null": (b"null", Usage()),
    "absent": (b"", Usage()),
    "a list": (b"[]", Usage()),
    "words": (b'{"input_tokens":"many"}', Usage()),
    "negative": (b'{"input_tokens":-9,"output_tokens":5}', Usage(output=5)),
}


@pytest.mark.parametrize("name", USAGES)
def test_usage_is_zero_where_it_cannot_be_read(name: str) -> None:
    raw, usage = USAGES[name]
    assert read_usage(msgspec.Raw(raw)) == usage


@pytest.mark.parametrize("usage", ["null", "[]", '"x"', "7", '{"input_tokens":{}}', '{"input_tokens":1e30}'])
def test_a_malformed_usage_never_costs_the_result(usage: str) -> None:
    body = f'{{"id":"r","status":"completed","usage":{usage}}}'.encode()
    outcome = read_retrieve(200, {}, body, NOW)
    assert isinstance(outcome, Done)
    assert outcome.usage == Usage()


WHYS = {
    "incomplete": ('"incomplete","incomplete_details":{"reason":"max_tokens"}', "incomplete", "max_tokens"),
    "incomplete for no reason": ('"incomplete","incomplete_details":null', "incomplete", "the service"),
    "incomplete oddly": ('"incomplete","incomplete_details":["x"]', "incomplete", "the service"),
    "a failed job": ('"failed","error":{"message":"boom","type":"server_error"}', "server_error", "boom"),
    "failed with text": ('"failed","error":"boom"', "failed", "boom"),
    "failed with null": ('"failed","error":null', "failed", "the job ended failed"),
    "failed with a list": ('"failed","error":[1]', "failed", "the job ended failed"),
    "failed silently": ('"failed"', "failed", "the job ended failed"),
    "cancelled": ('"cancelled"', "cancelled", "the job ended cancelled"),
    "expired": ('"EXPIRED"', "expired", "the job ended expired"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHYS)
def test_a_job_that_ended_badly_says_why(name: str) -> None:
    rest, kind, said = WHYS[name]
    outcome = read_retrieve(200, {}, f'{{"id":"r","status":{rest}}}'.encode(), NOW)
    assert isinstance(outcome, Done)
    assert outcome.failure is not None
    assert outcome.failure.type == kind
    assert said in outcome.failure.message


def test_numbers_out_of_range_pass_through_as_received() -> None:
    body = b'{"id":"r","status":"completed","x":1e999,"y":' + b"9" * 400 + b"}"
    outcome = read_retrieve(200, {}, body, NOW)
    assert isinstance(outcome, Done)
    assert bytes(outcome.reply.body) == body


def test_an_error_that_holds_half_an_emoji_keeps_its_message() -> None:
    outcome = read_submit(400, {}, b'{"error":{"message":"bad \\ud83d","code":"c"}}', NOW)
    assert isinstance(outcome, Rejected)
    assert outcome.failure.code == "c"
    assert outcome.failure.message.startswith("bad ")


def test_a_long_message_is_cut() -> None:
    body = json.dumps({"error": {"message": "x" * 100_000}}).encode()
    outcome = read_submit(400, {}, body, NOW)
    assert isinstance(outcome, Rejected)
    assert len(outcome.failure.message) <= 1000
