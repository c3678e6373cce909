"""A service in a few lines, over real sockets: tests say what it answers, and it counts what it was sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast

PENDING = "in_progress"


class StubService(ThreadingHTTPServer):
    """Jobs are `job-1`, `job-2`, … in the order of acceptance. Each function answers one kind of request."""

    daemon_threads = True

    def __init__(
        self,
        *,
        submit: Callable[[Exchange], None],
        poll: Callable[[Exchange, str], None],
        cancel: Callable[[Exchange, str], None],
    ) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.submit, self.poll, self.cancel = submit, poll, cancel
        self.posts = 0
        """POSTs of jobs so far."""
        self.accepted = 0
        """Jobs accepted so far."""
        self.cancellations = 0
        """POSTs so far that asked to cancel a job."""

    @property
    def base_url(self) -> str:
        """Address for `target.base_url`."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class Exchange(BaseHTTPRequestHandler):
    """One request and the answer to it; the connection is kept."""

    protocol_version = "HTTP/1.1"
    body = b""

    @property
    def service(self) -> StubService:
        """The service that the request was sent to."""
        return cast("StubService", self.server)

    @property
    def row(self) -> int:
        """Row of a POST whose prompt is the default one of synthetic rows."""
        prompt: str = json.loads(self.body)["input"]
        return int(prompt.split("TASK ")[1].split(":")[0])

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/cancel"):
            self.service.cancellations += 1
            self.service.cancel(self, self.path.split("/")[-2])
        else:
            self.service.posts += 1
            self.service.submit(self)

    def do_GET(self) -> None:
        self.service.poll(self, self.path.split("/")[-1])

    def accept(self) -> None:
        """Answer that the request is accepted, under the next id."""
        self.service.accepted += 1
        self.answer(202, {"id": f"job-{self.service.accepted}", "status": "queued"})

    def report(self, job: str, status: str = "completed") -> None:
        """Answer a poll with a status."""
        self.answer(200, {"id": job, "status": status, "output": []})

    def fail(self, status_code: int, message: str) -> None:
        """Answer with an error of the API."""
        self.answer(status_code, {"error": {"message": message}})

    def answer(self, status_code: int, body: Any) -> None:
        """Answer with a body: bytes as they are, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status_code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Write no log."""


def refuse_to_cancel(exchange: Exchange, job: str) -> None:
    """Answer as a service does that has no cancellation."""
    exchange.fail(405, f"{job} cannot be cancelled")


@contextmanager
def stub_service(
    *,
    submit: Callable[[Exchange], None] = Exchange.accept,
    status: Callable[[str], str] = lambda job: PENDING,
    poll: Callable[[Exchange, str], None] | None = None,
    cancel: Callable[[Exchange, str], None] = refuse_to_cancel,
) -> Iterator[StubService]:
    """Serve until the context ends. By default every job is accepted and stays in progress.

    `status` returns the status of a job; `poll` answers the whole GET instead.
    """

    def report(exchange: Exchange, job: str) -> None:
        exchange.report(job, status(job))

    with StubService(submit=submit, poll=poll or report, cancel=cancel) as service:
        Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield service
        finally:
            service.shutdown()
