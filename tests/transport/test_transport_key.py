"""The API key never shows in what a transport tells, however a service echoes it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.config import load
from runner.errors import ConfigError
from runner.transport.scrub import Scrubber
from tests.transport.conftest import Http

VERBS = pytest.mark.parametrize("verb", ["POST", "GET", "CANCEL", "CREATE", "LOOK", "RESULT", "LIST"])


def page(key: str) -> bytes:
    return f"<html>Authorization: Bearer {key}</html>".encode()


def done(key: str) -> bytes:
    return json.dumps({"id": "resp_1", "status": "completed", "echo": f"Bearer {key}"}).encode()


def error(key: str) -> bytes:
    return json.dumps({"error": {"message": f"Incorrect key: {key}.", "type": key, "code": key}}).encode()


ECHOES = {
    "a done job": lambda http, key: http.raw(done(key)),
    "a failed job": lambda http, key: http.raw(b'{"id":"resp_1","status":"failed",' + error(key)[1:]),
    "a compressed answer": lambda http, key: http.raw(
        gzip.compress(done(key)), headers={"Content-Encoding": "gzip"}
    ),
    "a mended answer": lambda http, key: http.raw(b"\xef\xbb\xbf" + done(key)),
    "an error 400": lambda http, key: http.raw(error(key), 400),
    "an error 401": lambda http, key: http.raw(error(key), 401),
    "an error with escaped slashes": lambda http, key: http.raw(error(key).replace(b"/", b"\\/"), 401),
    "an error 500": lambda http, key: http.raw(error(key), 500),
    "a throttle": lambda http, key: http.raw(error(key), 429),
    "a web page": lambda http, key: http.raw(page(key)),
    "a web page as an error": lambda http, key: http.raw(page(key), 502),
    "text": lambda http, key: http.raw(key.encode()),
    "a request id": lambda http, key: http.raw(done(key), headers={"X-Request-Id": f"req-{key}"}),
    "a redirect": lambda http, key: http.raw(b"", 301, {"Location": f"http://127.0.0.1/?key={key}"}),
    "a status line": lambda http, key: http.step(f"HTTP/1.1 Bearer {key}\r\n\r\n".encode(), "close"),
    "a first line": lambda http, key: http.step(f"Bearer {key}\r\n\r\n".encode(), "close"),
    "a broken header": lambda http, key: http.raw(b"{}", headers={"Authorization": f"Bearer {key}\x01"}),
    "a length": lambda http, key: http.raw(b"{}", headers={"Content-Length": key}),
}


@VERBS
@pytest.mark.parametrize("echo", ECHOES)
def test_the_key_shows_in_no_outcome(
    ask: Callable[..., Any], http: type[Http], api_key: str, verb: Any, echo: Any
) -> None:
    outcome = ask(verb, ECHOES[echo](http, api_key))
    told = msgspec.json.encode(outcome).decode() + repr(outcome)
    assert api_key not in told
    assert api_key not in told.replace("\\/", "/")


def test_the_job_goes_on_although_its_answer_holds_the_key(
    ask: Callable[..., Any], http: type[Http], api_key: str
) -> None:
    outcome = ask(
        "GET", http.json({"id": "resp_1", "status": "completed", "echo": f"Bearer {api_key}", "n": 1})
    )
    assert msgspec.json.decode(outcome.reply.body) == {
        "id": "resp_1",
        "status": "completed",
        "echo": "Bearer [API key]",
        "n": 1,
    }


@pytest.mark.parametrize(("key", "is_secret"), [("sk-1234", False), ("sk-12345", True), ("sk-123456-x", True)])
def test_a_key_that_may_not_stand_in_a_config_is_redacted_from_answers_and_no_other(
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
