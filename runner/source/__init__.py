"""Rows in, requests out: reading, templates, the check of everything before anything is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from runner.config import RunConfig
from runner.errors import InputError, Problem, StoppedEarly
from runner.records import Request
from runner.source.inputs import Row, Synthetic, open_input
from runner.source.rows import Compiler, RowError
from runner.source.template import Template
from runner.source.unique import Seen, digest

__all__ = ["Row", "Source", "Survey"]

GUIDE_PROMPT: Final = (
    "TASK {{ i }}: What is a fun fact about the number {{ i }}? "
    "Then, find the word at index {{ i }} in the following sequence of words: {{ 'word ' * 50 }}"
)
"""The workload of the vendor's guide: a numbered question and filler words."""
MOST_PROBLEMS: Final = 20
FEW_ALIKE: Final = 5


class Survey(msgspec.Struct, frozen=True):
    """What a whole reading of the input found."""

    rows: int
    fingerprint: str


class Source:
    """The requests of a run, by row. Made of the config; reads its files anew for each pass."""

    def __init__(self, config: RunConfig) -> None:
        section = config.source
        prompt = section.prompt or (GUIDE_PROMPT if section.type == "synthetic" else None)
        self._prompt_text = prompt or ""
        self._id_text = section.custom_id or ""
        self._compiler = Compiler(
            config.request,
            Template(prompt, "source.prompt") if prompt else None,
            Template(section.custom_id, "source.custom_id") if section.custom_id else None,
            is_background=config.target.mode == "background",
        )
        self._input = open_input(section)

    def blocks(self) -> Iterator[list[Row]]:
        """All rows in order, a block at a time; blocking. Raises `InputError`."""
        return self._input.blocks()

    def request(self, line: Row) -> Request:
        """The request of one row that `survey` has found good.

        Raises `StoppedEarly` where it no longer is: the file was changed while it was being sent.
        """
        try:
            return self._compile(line)
        except RowError as error:
            raise _changed(error, line) from None

    def name(self, line: Row) -> str:
        """The custom_id of one row; as `request`, for less."""
        try:
            return self._compiler.name(line.i, self._row(line))
        except RowError as error:
            raise _changed(error, line) from None

    def fingerprint(self) -> str:
        """SHA-256 over the input and the templates that requests are made with. Raises `InputError`."""
        parts = f"{self._input.fingerprint()}\0{self._prompt_text}\0{self._id_text}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def survey(self) -> Survey:
        """Read everything once and check every row and id. Raises `InputError` with what is wrong."""
        if isinstance(self._input, Synthetic) and self._prompt_text == GUIDE_PROMPT and not self._id_text:
            return self._survey_of_like_rows(self._input.count)
        problems: list[Problem] = []
        rows = 0
        with Seen() as seen:
            for line in self._all():
                rows += 1
                try:
                    seen.add(self._compile(line).custom_id)
                except RowError as error:
                    problems.append(Problem(str(error), line.where))
                    if len(problems) >= MOST_PROBLEMS:
                        more = Problem("and perhaps more: reading stopped here")
                        raise InputError(*_grouped(problems), more) from None
            problems.extend(islice(self._doubled(seen.doubled(MOST_PROBLEMS)), MOST_PROBLEMS + 1))
        if problems:
            rest = [Problem("and perhaps more")] if len(problems) > MOST_PROBLEMS else []
            raise InputError(*_grouped(problems[:MOST_PROBLEMS]), *rest)
        if not rows:
            raise InputError("the input has no rows")
        return Survey(rows=rows, fingerprint=self.fingerprint())

    def _survey_of_like_rows(self, count: int) -> Survey:
        """Rows that differ in nothing but their number, under ids that are numbers: one speaks for all."""
        try:
            self._compile(next(self._all()))
        except RowError as error:
            raise InputError(Problem(f"the row {error}", "source")) from None
        return Survey(rows=count, fingerprint=self.fingerprint())

    def _all(self) -> Iterator[Row]:
        for block in self._input.blocks():
            yield from block

    def _row(self, line: Row) -> dict[str, Any]:
        return self._compiler.parse(line.text) if line.text else {}

    def _compile(self, line: Row) -> Request:
        return self._compiler.compile(line.i, self._row(line))

    def _doubled(self, digests: frozenset[int]) -> Iterator[Problem]:
        if not digests:
            return
        first: dict[str, Row] = {}
        for line in self._all():
            try:
                custom_id = self._compiler.name(line.i, self._row(line))
            except RowError:
                continue  # it has a problem of its own, already told
            if digest(custom_id) not in digests:
                continue
            before = first.setdefault(custom_id, line)
            if before is not line:
                yield Problem(f"custom_id {custom_id!r} is already that of {before.where}", line.where)


def _changed(error: RowError, line: Row) -> StoppedEarly:
    return StoppedEarly(Problem(f"the input changed while it was being sent: the row {error}", line.where))


def _grouped(problems: list[Problem]) -> list[Problem]:
    """The same mistake in row after row is told once, where it was first."""
    alike: dict[str, list[Problem]] = {}
    for problem in problems:
        alike.setdefault(problem.what, []).append(problem)
    grouped: list[Problem] = []
    for same in alike.values():
        if len(same) <= FEW_ALIKE:
            grouped.extend(same)
        else:
            grouped.append(Problem(same[0].what, same[0].where, f"and {len(same) - 1} more rows like it"))
    return grouped
