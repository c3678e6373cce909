"""Rows in, requests out: readers, templates, and the check of all input before anything is sent."""

from runner.source.row import Row
from runner.source.source import Source
from runner.source.survey import Survey

__all__ = ["Row", "Source", "Survey"]
