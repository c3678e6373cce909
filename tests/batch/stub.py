"""A Batch API in a few lines, for habits that the simulator does not have."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

NOT_FOUND = {
    "error": {"message": "Not found.", "type": "not_found_error", "param": None, "code": "not_found"}
}


class Stub:
    """Only POST /batches and the two GETs. Every request is done at once; it lists none and knows no keys.

    A test changes its habits by replacing `create`, `look`, `result` or `list`, which return a status and a
    body.
    """

    def __init__(self, base_url: str, create_s: float) -> None:
        self.base_url = base_url
        self.create_s = create_s
        self.batches: dict[str, list[Any]] = {}
        """The requests of each."""
        self.posts: list[Any] = []
        """Their bodies."""
        self.fetched: dict[str, set[str]] = {}
        self.gets: list[str] = []
        self.accepted = self.posts_now = self.peak_posts = self.peak_open = 0
        self.lock = Lock()
        self.create: Callable[[Any], tuple[int, Any]] = self.accept
        self.look: Callable[[str], tuple[int, Any]] = self.all_done
        self.result: Callable[[str, str], tuple[int, Any]] = self.answer
        self.list: Callable[[], tuple[int, Any]] = lambda: (404, NOT_FOUND)

    def accept(self, body: Any) -> tuple[int, Any]:
        batch_id = f"batch_{self.accepted}"
        self.accepted += 1
        self.batches[batch_id], self.fetched[batch_id] = body["requests"], set()
        self.peak_open = max(self.peak_open, self.open)
        return 200, {"id": batch_id, "request_counts": len(body["requests"]), "created_at": time.time()}

    def all_done(self, batch_id: str, word: str = "COMPLETED") -> tuple[int, Any]:
        if batch_id not in self.batches:
            return 404, NOT_FOUND
        states = {it["custom_id"]: {"status": word} for it in self.batches[batch_id]}
        return 200, {"id": batch_id, "request_counts": len(states), "created_at": 1, "request_status": states}

    def answer(self, batch_id: str, custom_id: str) -> tuple[int, Any]:
        self.fetched[batch_id].add(custom_id)
        return 200, {"id": f"resp_{custom_id}", "status": "completed", "output": f"answer to {custom_id}"}

    @property
    def open(self) -> int:
        """Batches with requests whose results were not asked for."""
        return sum(len(self.fetched[it]) < len(requests) for it, requests in self.batches.items())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """An answer is written in two pieces, and the second would wait for an acknowledgement of the first."""

    def do_POST(self) -> None:
        stub: Stub = self.server.stub  # type: ignore[attr-defined]  # put there by `serving`
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with stub.lock:
            stub.posts_now += 1
            stub.peak_posts = max(stub.peak_posts, stub.posts_now)
        time.sleep(stub.create_s)  # how long this service takes
        with stub.lock:
            stub.posts.append(body)
            answer = stub.create(body)
            stub.posts_now -= 1
        self._say(*answer)

    def do_GET(self) -> None:
        stub: Stub = self.server.stub  # type: ignore[attr-defined]  # put there by `serving`
        path = self.path.partition("?")[0].split("/")
        with stub.lock:
            stub.gets.append(self.path)
            match path:
                case ["", "v1", "batches"]:
                    answer = stub.list()
                case ["", "v1", "batches", batch_id]:
                    answer = stub.look(batch_id)
                case ["", "v1", "batches", batch_id, custom_id]:
                    answer = stub.result(batch_id, custom_id)
                case _:
                    answer = 404, NOT_FOUND
        self._say(*answer)

    def _say(self, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def serving(create_s: float = 0.0) -> Iterator[Stub]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        stub = Stub(f"http://127.0.0.1:{server.server_port}/v1", create_s)
        server.stub = stub  # type: ignore[attr-defined]  # put there by `serving`
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield stub
        finally:
            server.shutdown()
