"""The config of a run: one YAML file → one frozen `RunConfig`, or every error at once."""

from runner.config.load import load
from runner.config.run_config import RunConfig
from runner.config.simulation import Simulator
from runner.config.target import EMBEDDED

__all__ = ["EMBEDDED", "RunConfig", "Simulator", "load"]
