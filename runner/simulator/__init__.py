"""A faithful local service: the Responses API in background mode, with its limits, windows and faults."""

from runner.simulator.embedded import Embedded
from runner.simulator.server import serve, serve_forever, serving

__all__ = ["Embedded", "serve", "serve_forever", "serving"]
