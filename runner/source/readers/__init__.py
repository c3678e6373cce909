"""Where rows are read from: one module for each type of source."""

from runner.source.readers.reader import Reader, open_reader

__all__ = ["Reader", "open_reader"]
