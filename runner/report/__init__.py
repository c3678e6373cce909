"""Reports: run directories become text or JSON. They only read files, and a run never needs them."""

from runner.report.rendering import report
from runner.report.summaries import read_summary

__all__ = ["read_summary", "report"]
