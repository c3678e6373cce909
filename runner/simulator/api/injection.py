"""Fault injection: draws which fault an exchange meets, applies it to the reply, and counts it."""

from __future__ import annotations

from collections.abc import Callable

from runner.config.simulation import FaultKind, Simulator
from runner.simulator.api import faults
from runner.simulator.api.reply import HttpReply
from runner.simulator.service.seeded import Draws
from runner.simulator.service.service import Service
from runner.simulator.service.stats import FaultTable


class FaultInjector:
    """The faults of `simulator.faults`. Owns how often each body was posted."""

    def __init__(self, settings: Simulator, service: Service) -> None:
        self._seed = settings.seed
        self._fault_s = settings.fault_s
        self._service = service
        self._posts: dict[bytes, int] = {}
        self._tables: dict[FaultTable, dict[FaultKind, float]] = {
            "post": settings.faults.post,
            "get": settings.faults.get,
            "batch": settings.faults.batch,
            "status": settings.faults.status,
            "result": settings.faults.result,
        }

    def draw_for_post(self, table: FaultTable, sha256: bytes) -> tuple[FaultKind | None, int]:
        """Return the fault of a POST, by the digest of its body, and how often that body came before."""
        if not self._tables[table]:
            return None, 0
        nth = self._posts.get(sha256, 0)
        self._posts[sha256] = nth + 1
        return self._draw(table, sha256, nth), nth

    def replacement(self, table: FaultTable, kind: FaultKind | None, nth: int) -> HttpReply | None:
        """Return the fault's own reply if the fault prevents the exchange, otherwise None."""
        if kind is None or kind not in faults.REPLACING:
            return None
        self._service.stats.fault(table, kind)
        return faults.replacement(kind, nth, self._service.now())

    def spoiled(self, table: FaultTable, kind: FaultKind | None, reply: HttpReply) -> HttpReply:
        """Return the reply as the fault leaves it; None leaves it as it is."""
        if kind is None:
            return reply
        self._service.stats.fault(table, kind)
        return faults.spoil(kind, reply, self._fault_s)

    def inject(
        self, table: FaultTable, about: bytes, nth: int, make_reply: Callable[[], HttpReply]
    ) -> HttpReply:
        """Return the reply to the nth GET of what `about` names, after the fault that is drawn for it."""
        kind = self._draw(table, about, nth)
        if kind is None:
            return make_reply()
        return self.replacement(table, kind, nth) or self.spoiled(table, kind, make_reply())

    def _draw(self, table: FaultTable, about: bytes, nth: int) -> FaultKind | None:
        if not self._tables[table]:
            return None
        draws = Draws(self._seed, table.encode(), about, nth)
        return faults.pick(self._tables[table], draws.unit(0))
