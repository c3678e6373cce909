"""The counters of a run, and how those of several processes become one: by the type of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_type_hints

import msgspec

from runner.records import RESULT_STATUSES

if TYPE_CHECKING:
    Tally = Counter[str]
else:
    Tally = dict[str, int]  # msgspec decodes no Counter: see `Counts.__post_init__`

Earliest = Annotated[float | None, "earliest"]
"""The earliest of some times; None while there are none."""
Latest = Annotated[float | None, "latest"]
"""The latest of some times; None while there are none."""

AnyCounts = TypeVar("AnyCounts", bound=msgspec.Struct)


def _statuses() -> Tally:
    return Counter(dict.fromkeys(RESULT_STATUSES, 0))


def _tokens() -> Tally:
    return Counter(input=0, cached=0, output=0, reasoning=0)


def _wire() -> Tally:
    return Counter(requests=0, sent_bytes=0, received_bytes=0)


class Counts(msgspec.Struct):
    """Everything about a run that adds up over processes and sessions, histograms aside.

    A new counter is one more field here. Its type says how it is merged; see `merged`.
    """

    statuses: Tally = msgspec.field(default_factory=_statuses)
    """Results on record by status."""
    tokens: Tally = msgspec.field(default_factory=_tokens)
    """Tokens used, those of superseded results included."""
    submit_retries: Tally = msgspec.field(default_factory=Counter)
    """Retries of POSTs by cause."""
    poll_retries: Tally = msgspec.field(default_factory=Counter)
    """Retries of polls by cause."""
    wire: Tally = msgspec.field(default_factory=_wire)
    """HTTP exchanges that were tried, and the bytes of their messages before TLS."""
    accepted: int = 0
    """Requests that the service accepted."""
    polls: int = 0
    """GETs that asked for a job or a batch."""
    spanned: int = 0
    """Results of requests that were outstanding while no session ran; excluded from latency figures."""
    superseded: int = 0
    """Results of earlier epochs: paid for, but replaced by a later try of their row."""
    first_accepted_mono: Earliest = None
    """First acceptance of this session, on the monotonic clock that all processes of a machine share."""
    last_accepted_mono: Latest = None
    """Last acceptance of this session, on the same clock."""
    last_accepted: Latest = None
    """Last acceptance of the run, in Unix seconds."""
    first_done: Earliest = None
    """Time of the first result, in Unix seconds."""
    last_done: Latest = None
    """Time of the last result, in Unix seconds."""

    def __post_init__(self) -> None:
        """Make each tally a `Counter`, in which a key that is new counts from zero."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is dict:
                setattr(self, name, Counter(value))


def earliest(times: Iterable[float | None]) -> float | None:
    """Return the earliest time, or None where all are None."""
    return min((time for time in times if time is not None), default=None)


def latest(times: Iterable[float | None]) -> float | None:
    """Return the latest time, or None where all are None."""
    return max((time for time in times if time is not None), default=None)


def merged(parts: Iterable[AnyCounts]) -> AnyCounts:
    """Return the counts of all parts together; the parts stay as they are.

    `parts` are structs of one class, at least one. The type of a field says how it is merged: an `int` and a
    `Tally` by addition, an `Earliest` and a `Latest` by comparison. Raises `TypeError` for any other type.
    """
    every = list(parts)
    kind = type(every[0])
    return kind(**{name: merge([getattr(part, name) for part in every]) for name, merge in _merges(kind)})


def _add_tallies(tallies: Iterable[Tally]) -> Tally:
    total: dict[str, int] = {}  # whose `get` takes a fraction of the time of a missing key of a Counter
    for tally in tallies:
        for key, count in tally.items():
            total[key] = total.get(key, 0) + count
    return Counter(total)


_MERGES: Final[dict[Any, Callable[[Iterable[Any]], Any]]] = {
    int: sum,
    Tally: _add_tallies,
    Earliest: earliest,
    Latest: latest,
}
"""How values of a type are merged."""


@cache
def _merges(kind: type[msgspec.Struct]) -> tuple[tuple[str, Callable[[Iterable[Any]], Any]], ...]:
    """Return each field's name with the function that merges its values."""
    merges = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if hint not in _MERGES:
            raise TypeError(f"{kind.__name__}.{name}: no rule merges a {hint}; add one to {__name__}._MERGES")
        merges.append((name, _MERGES[hint]))
    return tuple(merges)
