"""The config of a run: one YAML file → one frozen `RunConfig`, or every error at once."""

from runner.config.load import load
from runner.config.sections import EMBEDDED, RunConfig
from runner.config.simulation import Simulator

__all__ = ["EMBEDDED", "RunConfig", "Simulator", "load"]
