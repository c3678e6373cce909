"""The API key is never in an outcome, however a service echoes it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from runner.config import load
from runner.errors import ConfigError
from runner.transport.outcomes import Done
from runner.transport.scrub import Scrubber
from tests.transport.scripted import Step, as_json, raw
from tests.transport.talking import API_KEY, Ask, Verb

VERBS = pytest.mark.parametrize("verb", ["POST", "GET", "CANCEL", "CREATE", "BATCH", "RESULT", "LIST"])


def page(key: str) -> bytes:
    return f"<html>Authorization: Bearer {key}</html>".encode()


def done(key: str) -> bytes:
    return json.dumps({"id": "resp_1", "status": "completed", "echo": f"Bearer {key}"}).encode()


def error(key: str) -> bytes:
    return json.dumps({"error": {"message": f"Incorrect key: {key}.", "type": key, "code": key}}).encode()


ECHOES: dict[str, Callable[[str], Step]] = {
    "a done job": lambda key: raw(done(key)),
    "a failed job": lambda key: raw(b'{"id":"resp_1","status":"failed",' + error(key)[1:]),
    "a compressed answer": lambda key: raw(gzip.compress(done(key)), headers={"Content-Encoding": "gzip"}),
    "a mended answer": lambda key: raw(b"\xef\xbb\xbf" + done(key)),
    "an error 400": lambda key: raw(error(key), 400),
    "an error 401": lambda key: raw(error(key), 401),
    "an error with escaped slashes": lambda key: raw(error(key).replace(b"/", b"\\/"), 401),
    "an error 500": lambda key: raw(error(key), 500),
    "a throttle": lambda key: raw(error(key), 429),
    "a web page": lambda key: raw(page(key)),
    "a web page as an error": lambda key: raw(page(key), 502),
    "text": lambda key: raw(key.encode()),
    "a request id": lambda key: raw(done(key), headers={"X-Request-Id": f"req-{key}"}),
    "a redirect": lambda key: raw(b"", 301, {"Location": f"http://127.0.0.1/?key={key}"}),
    "a status line": lambda key: Step(f"HTTP/1.1 Bearer {key}\r\n\r\n".encode(), "close"),
    "a first line": lambda key: Step(f"Bearer {key}\r\n\r\n".encode(), "close"),
    "a broken header": lambda key: raw(b"{}", headers={"Authorization": f"Bearer {key}\x01"}),
    "a length": lambda key: raw(b"{}", headers={"Content-Length": key}),
}


@VERBS
@pytest.mark.parametrize("echo", ECHOES)
def test_the_key_is_in_no_outcome(ask: Ask, verb: Verb, echo: str) -> None:
    outcome = ask(verb, ECHOES[echo](API_KEY))
    seen = msgspec.json.encode(outcome).decode() + repr(outcome)
    assert API_KEY not in seen
    assert API_KEY not in seen.replace("\\/", "/")


def test_a_job_whose_answer_holds_the_key_is_done_with_the_key_redacted(ask: Ask) -> None:
    outcome = ask.expect(
        Done, "GET", as_json({"id": "resp_1", "status": "completed", "echo": f"Bearer {API_KEY}", "n": 1})
    )
    assert msgspec.json.decode(outcome.reply.body) == {
        "id": "resp_1",
        "status": "completed",
        "echo": "Bearer [API key]",
        "n": 1,
    }


@pytest.mark.parametrize(
    ("key", "is_secret"), [("sk-1234", False), ("sk-12345", True), ("sk-123456-x", True)]
)
def test_a_key_is_redacted_from_answers_if_and_only_if_a_config_may_not_hold_it(
    tmp_path: Path, key: str, is_secret: bool
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"name: a\nrequest: {{user: {key}}}\n")
    try:
        load(config, environ={"SAIL_API_KEY": key})
        is_refused = False
    except ConfigError:
        is_refused = True
    redacted = "Bearer [API key]" if is_secret else f"Bearer {key}"
    assert is_refused == is_secret
    assert Scrubber(key).text(f"Bearer {key}") == redacted
    assert Scrubber(key).body(f"Bearer {key}".encode()) == redacted.encode()
