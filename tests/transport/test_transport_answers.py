"""Answers of a service: accepted, pending, done; and bodies that are repaired and kept."""

from __future__ import annotations

import gzip
import json
import zlib

import msgspec
import pytest

from runner.records import Usage
from runner.transport import Transport
from runner.transport.outcomes import Accepted, Done, Pending, RetrieveOutcome, SubmitOutcome, Transient
from tests.transport.scripted import Service, Step, as_json, job, raw
from tests.transport.talking import Ask, Talk, Verb

WORDS = {
    "completed": "completed",
    "COMPLETED": "completed",
    "incomplete": "incomplete",
    "Failed": "failed",
    "cancelled": "cancelled",
    "CANCELED": "cancelled",
    "EXPIRED": "expired",
}
PENDING_WORDS = ["queued", "in_progress", "pending", "RUNNING", "a word never seen before", "", None]
VERBS = pytest.mark.parametrize("verb", ["POST", "GET"])


@pytest.mark.parametrize("word", PENDING_WORDS)
def test_a_job_that_is_not_done_is_accepted_and_then_pending(ask: Ask, word: str | None) -> None:
    assert ask("POST", job(word, 202)) == Accepted(id="resp_1")
    assert ask("GET", job(word)) == Pending()


@VERBS
@pytest.mark.parametrize("word", WORDS)
def test_a_done_word_in_any_case_is_done_at_once(ask: Ask, verb: Verb, word: str) -> None:
    outcome = ask.expect(Done, verb, job(word))
    assert outcome.status == WORDS[word]
    assert (outcome.failure is None) == (outcome.status == "completed")


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_post_may_be_answered_with_any_success(ask: Ask, status: int) -> None:
    assert ask("POST", job("queued", status)) == Accepted(id="resp_1")


@VERBS
def test_the_reply_holds_status_request_id_and_the_bytes_as_received(ask: Ask, verb: Verb) -> None:
    body = b'{"object" : "response","id":"resp_1","status":"completed", "x":1.50,"y":"\\u00e9\\/"}'
    outcome = ask.expect(Done, verb, raw(body, headers={"X-Request-Id": "req_7"}))
    assert outcome.reply.status_code == 200
    assert outcome.reply.request_id == "req_7"
    assert bytes(outcome.reply.body) == body


def test_without_a_request_id_the_reply_has_none(ask: Ask) -> None:
    assert ask.expect(Done, "GET", job("completed")).reply.request_id is None


@VERBS
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_pretty_printed_body_becomes_one_line(ask: Ask, verb: Verb, newline: str) -> None:
    value = {"id": "resp_1", "status": "completed", "output": [{"text": "two\nlines"}]}
    pretty = json.dumps(value, indent=4).replace("\n", newline) + newline
    line = bytes(ask.expect(Done, verb, raw(pretty.encode())).reply.body)
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == value


REPAIRED = {
    "lone surrogate": (b'{"id":"resp_1","status":"completed","t":"half \\ud83d"}', "t", "half \ufffd"),
    "NaN": (b'{"id":"resp_1","status":"completed","t":NaN}', "t", None),
    "Infinity": (b'{"id":"resp_1","status":"completed","t":[-Infinity,1]}', "t", [None, 1]),
    "BOM": (b'\xef\xbb\xbf{"id":"resp_1","status":"completed","t":"\xc3\xab"}', "t", "ë"),
    "raw control character": (b'{"id":"resp_1","status":"completed","t":"a\tb\nc"}', "t", "a\tb\nc"),
}


@VERBS
@pytest.mark.parametrize("name", REPAIRED)
def test_json_as_python_services_write_it_is_repaired_and_kept(ask: Ask, verb: Verb, name: str) -> None:
    body, key, value = REPAIRED[name]
    outcome = ask.expect(Done, verb, raw(body))
    assert msgspec.json.decode(outcome.reply.body)[key] == value


@VERBS
def test_ten_megabytes_arrive_whole(ask: Ask, verb: Verb) -> None:
    body = json.dumps({"id": "resp_1", "status": "completed", "text": "x" * 10_000_000}).encode()
    assert bytes(ask.expect(Done, verb, raw(body)).reply.body) == body


@VERBS
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_answer_is_read(ask: Ask, verb: Verb, coding: str) -> None:
    body = b'{"id":"resp_1","status":"completed"}'
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    outcome = ask.expect(Done, verb, raw(packed, headers={"Content-Encoding": coding}))
    assert bytes(outcome.reply.body) == body


@pytest.mark.parametrize(
    "content_type", ["text/html", "text/plain; charset=latin-1", "application/octet-stream"]
)
def test_the_content_type_of_a_success_is_ignored(ask: Ask, content_type: str) -> None:
    body = '{"id":"resp_1","status":"completed","t":"Zoë"}'.encode()
    outcome = ask.expect(Done, "GET", raw(body, headers={"Content-Type": content_type}))
    assert bytes(outcome.reply.body) == body


@VERBS
def test_an_answer_without_a_length_ends_with_its_connection(ask: Ask, verb: Verb) -> None:
    body = b'{"id":"resp_1","status":"completed"}'
    outcome = ask.expect(Done, verb, Step(b"HTTP/1.1 200 OK\r\n\r\n" + body, "close"))
    assert bytes(outcome.reply.body) == body


@VERBS
def test_chunks_are_joined(ask: Ask, verb: Verb) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    outcome = ask.expect(
        Done, verb, Step(head + b'8\r\n{"id":"r\r\n1c\r\nesp_1","status":"completed"}\r\n0\r\n\r\n')
    )
    assert bytes(outcome.reply.body) == b'{"id":"resp_1","status":"completed"}'


def test_usage_is_read_from_a_done_job(ask: Ask) -> None:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
    }
    outcome = ask.expect(Done, "GET", as_json({"id": "resp_1", "status": "completed", "usage": usage}))
    assert outcome.usage == Usage(input=100, cached=40, output=20, reasoning=5)


@pytest.mark.parametrize("octets", [b"\xff", b"caf\xc3\xa9", b"\x80\xfe"])
def test_a_request_id_of_any_bytes_can_be_written_to_the_results(ask: Ask, octets: bytes) -> None:
    answer = raw(
        b'{"id":"resp_1","status":"completed"}', headers={"X-Request-Id": "req-" + octets.decode("latin-1")}
    )
    outcome = ask.expect(Done, "GET", answer)
    assert b"req-" in msgspec.json.encode(outcome)


def test_an_answer_about_another_job_is_transient(ask: Ask) -> None:
    outcome = ask.expect(Transient, "GET", as_json({"id": "resp_2", "status": "completed", "output": []}))
    assert (outcome.cause, outcome.ambiguous) == ("other_job", False)
    assert "another job, 'resp_2'" in outcome.failure.message


def test_a_number_as_an_id_becomes_its_digits(talk: Talk) -> None:
    async def conversation(transport: Transport, service: Service) -> tuple[SubmitOutcome, RetrieveOutcome]:
        return await transport.submit(b"{}", "key"), await transport.retrieve("7")

    steps = as_json({"id": 7, "status": "queued"}, 202), as_json({"id": 7, "status": "running"})
    assert talk(conversation, *steps) == (Accepted(id="7"), Pending())
