"""A Batch API in a few lines, for habits that the simulator does not have."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final, TypeAlias

Answer: TypeAlias = tuple[int, object]
"""A status, and a body: bytes as they are, anything else as JSON."""
NOT_FOUND: Final = {
    "error": {"message": "Not found.", "type": "not_found_error", "param": None, "code": "not_found"}
}


class Stub:
    """The POST of a batch and the two GETs. Requests are done at once; nothing is listed, no key is known.

    A test changes these habits by replacing `create`, `poll` or `result`.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.batches: dict[str, list[dict[str, Any]]] = {}
        """The requests of each batch that was made."""
        self.posts: list[dict[str, Any]] = []
        """The body of each POST."""
        self.lock = Lock()
        self.create: Callable[[dict[str, Any]], Answer] = self.accept
        self.poll: Callable[[str], Answer] = self.all_done
        self.result: Callable[[str, str], Answer] = self.answer

    def accept(self, body: dict[str, Any]) -> Answer:
        """Make a batch."""
        batch_id = f"batch_{len(self.batches)}"
        self.batches[batch_id] = body["requests"]
        return 200, {"id": batch_id, "request_counts": len(body["requests"]), "created_at": time.time()}

    def all_done(self, batch_id: str, word: str = "COMPLETED") -> Answer:
        """Answer a poll: all requests have the status `word`."""
        if batch_id not in self.batches:
            return 404, NOT_FOUND
        states = {it["custom_id"]: {"status": word} for it in self.batches[batch_id]}
        return 200, {"id": batch_id, "request_counts": len(states), "created_at": 1, "request_status": states}

    def answer(self, batch_id: str, custom_id: str) -> Answer:
        """Answer a fetch of a result."""
        return 200, {"id": f"resp_{custom_id}", "status": "completed", "output": f"answer to {custom_id}"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """An answer is written in two pieces, and the second would wait for an acknowledgement of the first."""

    def do_POST(self) -> None:
        stub: Stub = self.server.stub  # type: ignore[attr-defined]  # put there by `serving`
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with stub.lock:
            stub.posts.append(body)
            answer = stub.create(body)
        self._say(*answer)

    def do_GET(self) -> None:
        stub: Stub = self.server.stub  # type: ignore[attr-defined]  # put there by `serving`
        with stub.lock:
            match self.path.partition("?")[0].split("/"):
                case ["", "v1", "batches", batch_id]:
                    answer = stub.poll(batch_id)
                case ["", "v1", "batches", batch_id, custom_id]:
                    answer = stub.result(batch_id, custom_id)
                case _:
                    answer = 404, NOT_FOUND
        self._say(*answer)

    def _say(self, status: int, body: object) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def serving() -> Iterator[Stub]:
    """Serve a stub on threads of this process until the end of the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        stub = Stub(f"http://127.0.0.1:{server.server_port}/v1")
        server.stub = stub  # type: ignore[attr-defined]  # read by the handler
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield stub
        finally:
            server.shutdown()
