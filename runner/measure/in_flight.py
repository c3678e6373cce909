"""How many rows stand where: the one owner of these counts, for one process or for a whole run."""

from __future__ import annotations

import msgspec


class Miscount(AssertionError):
    """A transition of more rows than there are: a defect of this program. Its text is the counts before."""


class InFlight(msgspec.Struct):
    """Counts of the rows of a run by where each stands, and the only ones of their kind.

    A row is *waiting* until it is *taken*, which occupies one of `submit.max_in_flight` slots. Once the
    service has accepted it, it is *outstanding*. Once its result is on record, it is *finished* and its slot
    is free. A row that is taken, or that an earlier session sent without an answer, may also be *announced*:
    an intent is in the journal, so the service may know of the row.

    A transition that would make a count negative raises `Miscount` and changes nothing, because these counts
    decide when a run may end and what may be sent.
    """

    total: int = 0
    """Rows that are to have a result in the end."""
    taken: int = 0
    """Rows that occupy a slot and are not accepted: ready, being sent, or waiting for a retry."""
    announced: int = 0
    """Rows with an intent in the journal and neither an acceptance nor a result."""
    sending: int = 0
    """POSTs being sent; in batch mode one POST carries many rows."""
    outstanding: int = 0
    """Accepted rows without a result on record."""
    finished: int = 0
    """Rows with a result on record, those of earlier sessions included."""

    def __repr__(self) -> str:
        return (
            f"<InFlight {self.taken} taken, {self.announced} announced, {self.sending} sending, "
            f"{self.outstanding} outstanding, {self.finished} of {self.total} finished>"
        )

    @property
    def slots_used(self) -> int:
        """Rows that occupy a slot: taken or outstanding."""
        return self.taken + self.outstanding

    @property
    def unsent(self) -> int:
        """Rows that are neither outstanding nor finished."""
        return max(self.total - self.finished - self.outstanding, 0)

    @property
    def submitted(self) -> int:
        """Rows that need no POST any more: outstanding or finished."""
        return self.finished + self.outstanding

    @property
    def is_complete(self) -> bool:
        """Whether every row has its result on record."""
        return self.finished >= self.total

    @property
    def is_idle(self) -> bool:
        """Whether nothing is outstanding and no POST is being sent."""
        return not (self.outstanding or self.sending)

    def grant(self, rows: int) -> None:
        """Add rows to those that are to have a result."""
        self.total += rows

    def revoke(self, rows: int) -> None:
        """Remove rows that another process will finish."""
        if rows > self.total:
            raise Miscount(self)
        self.total -= rows

    def take(self, rows: int = 1) -> None:
        """Occupy a slot for each row: waiting → taken."""
        self.taken += rows

    def release(self, rows: int = 1) -> None:
        """Free the slots of rows that are not sent now: taken → waiting."""
        if rows > self.taken:
            raise Miscount(self)
        self.taken -= rows

    def announce(self, rows: int = 1) -> None:
        """Note that intents are in the journal: the service may know of these rows from now on."""
        self.announced += rows

    def retract(self, rows: int = 1) -> None:
        """Note that the service surely does not know of these rows, whose intents were in the journal."""
        if rows > self.announced:
            raise Miscount(self)
        self.announced -= rows

    def post_started(self) -> None:
        """Count a POST that is being sent."""
        self.sending += 1

    def post_ended(self) -> None:
        """Count a POST as over, answered or not."""
        if not self.sending:
            raise Miscount(self)
        self.sending -= 1

    def accept(self, rows: int = 1) -> None:
        """Note that the service works on announced rows: taken → outstanding."""
        if rows > self.taken or rows > self.announced:
            raise Miscount(self)
        self.taken -= rows
        self.announced -= rows
        self.outstanding += rows

    def inherit(self, rows: int) -> None:
        """Count rows that were accepted before, by another session or process: waiting → outstanding."""
        self.outstanding += rows

    def forget(self, rows: int = 1) -> None:
        """Free the slots of accepted rows that the service no longer knows: outstanding → waiting."""
        if rows > self.outstanding:
            raise Miscount(self)
        self.outstanding -= rows

    def finish(self, rows: int = 1) -> None:
        """Note that results of accepted rows are on record: outstanding → finished."""
        if rows > self.outstanding:
            raise Miscount(self)
        self.outstanding -= rows
        self.finished += rows

    def refuse(self, rows: int = 1, *, announced: int = 0) -> None:
        """Note that results of rows that were never accepted are on record: taken → finished.

        `announced` of them had an intent in the journal.
        """
        if rows > self.taken or announced > min(rows, self.announced):
            raise Miscount(self)
        self.taken -= rows
        self.announced -= announced
        self.finished += rows
