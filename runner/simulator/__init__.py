"""A faithful local service: the Responses API in background mode, with its limits, windows and faults."""

from runner.simulator.embedded import Embedded
from runner.simulator.http.server import serve, serve_forever, serving
from runner.simulator.service.answers import answer_to, prompt_digest

__all__ = ["Embedded", "answer_to", "prompt_digest", "serve", "serve_forever", "serving"]
