"""The requests of a run, by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from runner.config import RunConfig
from runner.errors import Problem, StoppedEarly
from runner.records import Request
from runner.source.compiler import Compiler
from runner.source.readers import open_reader
from runner.source.row import Row, RowError
from runner.source.survey import Survey, check_all_rows, check_first_row
from runner.source.template import Template


class Source:
    """The rows of a run and the requests that they become. Each pass reads the input from its beginning.

    Raises `ConfigError` for a template that is none, and `InputError` for files that are missing.
    """

    def __init__(self, config: RunConfig) -> None:
        section = config.source
        prompt = Template(section.prompt, "source.prompt") if section.prompt else None
        custom_id = Template(section.custom_id, "source.custom_id") if section.custom_id else None
        self._reader = open_reader(section)
        self._prompt_text = section.prompt or self._reader.default_prompt or ""
        self._id_text = section.custom_id or ""
        if self._prompt_text and not prompt:
            prompt = Template(self._prompt_text, "source.prompt")
        is_background = config.target.mode == "background"
        self._compiler = Compiler(config.request, prompt, custom_id, is_background=is_background)

    def blocks(self) -> Iterator[list[Row]]:
        """Yield all rows in order, a bounded number at a time. Blocks. Raises `InputError`."""
        return self._reader.blocks()

    def request(self, row: Row) -> Request:
        """Return the request of a row that `survey` found to be good.

        Raises `StoppedEarly` if the row is no longer good: its file was changed during the run.
        """
        try:
            return self._compiler.compile(row.i, row.fields())
        except RowError as error:
            raise _changed(error, row) from None

    def name(self, row: Row) -> str:
        """Return the custom_id of a row. Costs less than `request`, and raises the same."""
        try:
            return self._compiler.name(row.i, row.fields())
        except RowError as error:
            raise _changed(error, row) from None

    def fingerprint(self) -> str:
        """Return a hex SHA-256 of the input and of the templates. Raises `InputError`."""
        parts = f"{self._reader.fingerprint()}\0{self._prompt_text}\0{self._id_text}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def survey(self) -> Survey:
        """Read all input once, and check every row and id. Raises `InputError` with the problems found."""
        count = self._reader.numbered_rows
        if count is not None and self._prompt_text == self._reader.default_prompt and not self._id_text:
            check_first_row(self._reader, self._compiler)
        else:
            count = check_all_rows(self._reader, self._compiler)
        return Survey(rows=count, fingerprint=self.fingerprint())


def _changed(error: RowError, row: Row) -> StoppedEarly:
    return StoppedEarly(Problem(f"the input changed while it was being sent: the row {error}", row.where))
