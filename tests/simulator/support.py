"""Shared by the tests of the simulator: settings, bodies, schemas, and the API in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from jsonschema import Draft202012Validator

from runner.config.simulation import Simulator
from runner.simulator.api.api import Api
from runner.simulator.api.reply import HttpReply, SlicedWork
from runner.simulator.api.request import HttpRequest
from runner.simulator.service.ledger import Ledger
from runner.simulator.service.service import Service

KEY = "sk-a-key-that-must-not-be-kept"
OPENAPI = Path(__file__).resolve().parents[1] / "data" / "sail-openapi.json"
"""The OpenAPI document of the service that the simulator plays."""


def settings(**values: Any) -> Simulator:
    """Return settings in which a job takes no time, unless `values` say otherwise."""
    return Simulator.model_validate({"latency": {"type": "constant", "mean_s": 0.0}, **values})


def taking(seconds: float, **values: Any) -> Simulator:
    """Return settings in which every job takes this long."""
    return settings(latency={"type": "constant", "mean_s": seconds}, **values)


def params_of(prompt: object = "What is a fun fact about 7?", **values: Any) -> dict[str, Any]:
    """Return the params of a request of a batch."""
    return {"model": "zai-org/GLM-5", "input": prompt, **values}


def body_of(prompt: object = "What is a fun fact about 7?", **values: Any) -> dict[str, Any]:
    """Return the body of a background request."""
    return params_of(prompt, **{"background": True, **values})


def batch_of(*custom_ids: str, label: str | None = None, **values: Any) -> dict[str, Any]:
    """Return the body of a batch whose prompts are the custom_ids; `values` go into the params of each."""
    requests = [{"custom_id": name, "params": params_of(name, **values)} for name in custom_ids]
    body: dict[str, Any] = {"endpoint": "/v1/responses", "requests": requests}
    return body if label is None else {**body, "label": label}


def schema_of(name: str) -> Draft202012Validator:
    """Return the validator of a schema of the OpenAPI document."""
    document = json.loads(OPENAPI.read_bytes())
    return Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})


def schema_of_reply(path: str, method: str, status_code: int = 200) -> Draft202012Validator:
    """Return the validator of the reply of an endpoint of the OpenAPI document."""
    document = json.loads(OPENAPI.read_bytes())
    reply = document["paths"][path][method]["responses"][str(status_code)]
    schema = reply["content"]["application/json"]["schema"]
    return Draft202012Validator({"components": document["components"], **schema})


# --- virtual time


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Virtual:
    """The API without sockets, in virtual time."""

    def __init__(self, configured: Simulator | None = None, ledger: Ledger | None = None) -> None:
        self.clock = Clock()
        configured = configured or settings()
        self.service = Service(configured, self.clock, ledger)
        self.api = Api(configured, self.service, None)

    def answer(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None = None,
        key: str | None = None,
        api_key: str | None = KEY,
    ) -> HttpReply:
        """Return the reply as the API gives it, perhaps with the work that makes it."""
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        headers = {} if key is None else {b"idempotency-key": key.encode()}
        if api_key is not None:
            headers[b"authorization"] = b"Bearer " + api_key.encode()
        return self.api.answer(HttpRequest(method, path, headers, keep_alive=True, chunks=True, body=raw))

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None = None,
        key: str | None = None,
        api_key: str | None = KEY,
    ) -> HttpReply:
        """Return the reply to a request after all of its work, and report it as sent."""
        reply = self.answer(method, path, body, key, api_key)
        if reply.work is not None:
            reply = self._finished(reply.work)
        self.api.served(reply, sent=reply.waits_for is None and reply.manner == "whole")
        return reply

    def _finished(self, work: SlicedWork) -> HttpReply:
        made = None
        for step in work:
            if isinstance(step, HttpReply):
                made = step
            else:
                self.clock.now += step
        assert made is not None
        return made

    # --- single responses

    def post(
        self, body: dict[str, Any] | bytes | None = None, key: str | None = None, api_key: str | None = KEY
    ) -> HttpReply:
        """Return the reply to a POST of a response."""
        return self.call("POST", "/v1/responses", body_of() if body is None else body, key, api_key)

    def create(self, prompt: object, **values: Any) -> str:
        """Create a background response and return its id."""
        reply = self.post(body_of(prompt, **values))
        assert reply.status_code == 202, reply.body
        return str(content(reply)["id"])

    def get(self, job_id: str) -> dict[str, Any]:
        """Return a response."""
        return content(self.call("GET", f"/v1/responses/{job_id}"))

    # --- batches

    def batch(
        self, body: dict[str, Any] | bytes | None = None, key: str | None = None, api_key: str | None = KEY
    ) -> HttpReply:
        """Return the reply to a POST of a batch; by default one of two requests, "a" and "b"."""
        return self.call("POST", "/v1/batches", batch_of("a", "b") if body is None else body, key, api_key)

    def create_batch(self, *custom_ids: str, **values: Any) -> str:
        """Create a batch and return its id."""
        reply = self.batch(batch_of(*custom_ids, **values))
        assert reply.status_code == 200, reply.body
        return str(content(reply)["id"])

    def states(self, batch_id: str) -> list[str]:
        """Return the status words of a batch's requests, in order."""
        states = content(self.call("GET", f"/v1/batches/{batch_id}"))["request_status"]
        return [state["status"] for state in states.values()]

    def result(self, batch_id: str, custom_id: str) -> dict[str, Any]:
        """Return the response of one request of a batch."""
        return content(self.call("GET", f"/v1/batches/{batch_id}/{custom_id}"))


@contextmanager
def remembering(state: Path, configured: Simulator | None = None) -> Iterator[Virtual]:
    """Provide a simulator in virtual time with a state file."""
    ledger = Ledger(state)
    try:
        yield Virtual(configured, ledger)
    finally:
        ledger.close()


def content(reply: HttpReply) -> dict[str, Any]:
    """Return the object in a reply's body."""
    decoded: dict[str, Any] = json.loads(reply.body)
    return decoded


def listed(reply: HttpReply) -> list[dict[str, Any]]:
    """Return the list of objects in a reply's body."""
    assert reply.status_code == 200, reply.body
    decoded: list[dict[str, Any]] = json.loads(reply.body)
    return decoded
