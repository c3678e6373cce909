"""`runner simulate`: serves the simulator until it is stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner.config import Simulator, load
from runner.simulator import serve_forever


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What the command line says."""

    host: str
    port: int
    """Port to listen on; 0 for any free one."""
    config: str | None = None
    """A run config, for its section `simulator`."""
    settings_json: str | None = None
    """The section as JSON, from a run that starts the simulator; it goes before `config`."""
    state: str | None = None
    """File in which jobs are remembered over restarts."""
    parent_pipe: bool = False
    """Whether to stop when stdin ends."""


def simulate(options: SimulateOptions) -> int:
    """Serve until stopped, and return the exit code. Raises `ConfigError`."""
    state = Path(options.state) if options.state else None
    return serve_forever(_settings(options), options.host, options.port, state, options.parent_pipe)


def _settings(options: SimulateOptions) -> Simulator:
    if options.settings_json:
        return Simulator.model_validate_json(options.settings_json)
    return load(options.config).simulator if options.config else Simulator()
