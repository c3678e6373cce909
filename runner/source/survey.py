"""The check of all rows before anything is sent: each is a request, and each custom_id comes once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

import msgspec

from runner.errors import InputError, Problem
from runner.source.compiler import Compiler
from runner.source.readers import Reader
from runner.source.row import Row, RowError
from runner.source.unique import Seen, digest

MOST_PROBLEMS: Final = 20
"""Reading stops after this many bad rows. As many duplicate ids are reported, at most."""
FEW_ALIKE: Final = 5
"""Up to this many equal problems are reported one by one; more of them once, with their count."""


class Survey(msgspec.Struct, frozen=True):
    """What one reading of the whole input found."""

    rows: int
    fingerprint: str
    """Hex SHA-256 of the input and of the templates."""


def check_first_row(reader: Reader, compiler: Compiler) -> None:
    """Check one row in place of all, where rows differ in nothing but their number. Raises `InputError`."""
    row = next(_all_rows(reader))
    try:
        compiler.compile(row.i, row.fields())
    except RowError as error:
        raise InputError(Problem(f"the row {error}", "source")) from None


def check_all_rows(reader: Reader, compiler: Compiler) -> int:
    """Check that every row is a request under an id of its own, and return the number of rows.

    Raises `InputError` with up to about `MOST_PROBLEMS` problems.
    """
    problems: list[Problem] = []
    rows = 0
    with Seen() as seen:
        for row in _all_rows(reader):
            rows += 1
            try:
                seen.add(compiler.compile(row.i, row.fields()).custom_id)
            except RowError as error:
                problems.append(Problem(str(error), row.where))
                if len(problems) >= MOST_PROBLEMS:
                    more = Problem("and perhaps more: reading stopped here")
                    raise InputError(*_grouped(problems), more) from None
        duplicates = _duplicates(reader, compiler, seen.duplicates(MOST_PROBLEMS))
        problems.extend(islice(duplicates, MOST_PROBLEMS + 1))
    if problems:
        rest = [Problem("and perhaps more")] if len(problems) > MOST_PROBLEMS else []
        raise InputError(*_grouped(problems[:MOST_PROBLEMS]), *rest)
    if not rows:
        raise InputError("the input has no rows")
    return rows


def _all_rows(reader: Reader) -> Iterator[Row]:
    return chain.from_iterable(reader.blocks())


def _duplicates(reader: Reader, compiler: Compiler, digests: frozenset[int]) -> Iterator[Problem]:
    """Yield a problem for each row whose id an earlier row has. Reads only the ids with these digests."""
    if not digests:
        return
    first: dict[str, Row] = {}
    for row in _all_rows(reader):
        try:
            custom_id = compiler.name(row.i, row.fields())
        except RowError:
            continue  # already reported
        if digest(custom_id) not in digests:
            continue
        earlier = first.setdefault(custom_id, row)
        if earlier is not row:
            yield Problem(f"custom_id {custom_id!r} is already used by {earlier.where}", row.where)


def _grouped(problems: list[Problem]) -> list[Problem]:
    """Return the problems with each mistake that many rows share reported once, at its first row."""
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
