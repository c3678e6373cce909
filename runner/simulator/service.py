"""The service as a state machine in the time of a given clock. Owns jobs, keys and the account."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import suppress

from runner.config.simulation import RateLimit, Simulator
from runner.simulator.account import Account, Exchange
from runner.simulator.answers import answer_words
from runner.simulator.bucket import Bucket
from runner.simulator.chance import Draws
from runner.simulator.job import Job, Outcome, Terms
from runner.simulator.latency import latency_s
from runner.simulator.ledger import Cancelled, Deleted, Delivered, Event, Ledger
from runner.simulator.order import Order
from runner.simulator.refusals import Refusal, key_conflict, not_found, throttled
from runner.simulator.slots import Slots

KEY_KEPT_S = 86_400.0
_OUTCOME = 2  # the number of a job's draws that decides how it ends; 0 and 1 belong to the latency


class Service:
    """Given the same settings and the same bodies, the same jobs, whatever the order of arrival."""

    def __init__(self, settings: Simulator, clock: Callable[[], float], ledger: Ledger | None = None) -> None:
        self.settings = settings
        self.account = Account()
        self.slots = Slots(settings.capacity)
        self._clock = clock
        self._now = clock()
        self._jobs: dict[str, Job] = {}
        self._keys: dict[str, dict[str, Job]] = {}
        self._occurrences: dict[bytes, int] = {}
        limits = settings.rate_limits
        self._buckets = {"post": self._bucket(limits.post), "get": self._bucket(limits.get)}
        self._write: Callable[[Event], None] | None = None
        if ledger is not None:
            self._restore(ledger)
            self._write = ledger.write

    def now(self) -> float:
        """Catches up with the clock, which is taken never to go back."""
        self._now = max(self._now, self._clock())
        self.slots.advance(self._now)
        return self._now

    def throttle(self, exchange: Exchange) -> None:
        """Raises Refusal (429) where the rate limit says so."""
        bucket = self._buckets[exchange]
        if bucket is not None and (wait_s := bucket.take(self.now())):
            self.account.throttled += 1
            raise throttled(str(max(1, math.ceil(wait_s))))

    def submit(self, order: Order, body: bytes, scope: str, key: str | None) -> tuple[Job, bool]:
        """The job for this request, and whether it is new. Raises Refusal where the key is another body's."""
        now = self.now()
        sha256 = hashlib.sha256(body).digest()
        known = None if key is None else self._keys.get(scope, {}).get(key)
        if known is not None and now - known.terms.accepted < KEY_KEPT_S:
            return self._replay(known, sha256), False
        terms = self._terms(order, sha256, scope, key, now)
        if self._write is not None:
            self._write(terms)
        job = self._accept(terms)
        return job, True

    def start(self, job: Job) -> None:
        """Lets a new job run, or wait for its turn; apart from `submit` so that its answer says pending."""
        self.slots.enter(job, job.terms.accepted)

    def find(self, id: str) -> Job:  # noqa: A002  # the field's own word
        """Raises Refusal (404) for a job never seen, deleted, or no longer retained."""
        now = self.now()
        job = self._jobs.get(id)
        if job is None or job.deleted or self._forgotten(job, now):
            raise not_found(f"Response {id!r}")
        return job

    def cancel(self, job: Job) -> None:
        """Does nothing to a job that is done."""
        if not job.terms.background:
            raise Refusal(400, "Only background responses can be cancelled.", code="not_background")
        now = self.now()
        if not job.done:
            self._happened(Cancelled(job.terms.id, now))

    def delete(self, job: Job) -> None:
        """Also cancels a job that is not done."""
        self._happened(Deleted(job.terms.id, self.now()))

    def deliver(self, job: Job) -> None:
        """A whole answer with the done job was sent."""
        if job.delivered is None and not job.deleted:
            with suppress(Refusal):  # the answer is gone already; that it was is not remembered
                self._happened(Delivered(job.terms.id, self.now()))

    def jobs(self) -> Iterator[Job]:
        self.now()
        return iter(list(self._jobs.values()))

    def report(self) -> Account:
        """The account as of now."""
        self.now()
        self.account.executed = self.slots.started
        self.account.running = self.slots.running
        self.account.peak_running = self.slots.peak_running
        return self.account

    def _bucket(self, limit: RateLimit | None) -> Bucket | None:
        return None if limit is None else Bucket(limit, self._now)

    def _forgotten(self, job: Job, now: float) -> bool:
        retention_s = self.settings.retention_s
        return retention_s is not None and job.delivered is not None and now - job.delivered > retention_s

    def _replay(self, job: Job, sha256: bytes) -> Job:
        if job.terms.sha256 != sha256:
            raise key_conflict()
        if job.deleted:
            raise not_found("The response of this Idempotency-Key")
        self.account.replayed += 1
        return job

    def _terms(self, order: Order, sha256: bytes, scope: str, key: str | None, now: float) -> Terms:
        settings = self.settings
        nth = self._occurrences.get(sha256, 0)
        draws = Draws(settings.seed, b"job", sha256, nth)
        factor = 1.0 if order.window is None else settings.windows[order.window]
        outcome = self._outcome(draws.unit(_OUTCOME))
        words = answer_words(order.prompt, settings.output_tokens, order.max_output_tokens)
        return Terms(
            id=f"resp_{draws.hex()}",
            key=key,
            scope=scope,
            sha256=sha256,
            model=order.model,
            parameters=order.parameters,
            metadata=order.metadata,
            background=order.background,
            prompt=order.prompt,
            input_tokens=order.input_tokens,
            output_tokens=max(1, words // 2) if outcome == "incomplete" else words,
            outcome=outcome,
            accepted=now,
            duration_s=latency_s(settings.latency, draws) * factor,
        )

    def _outcome(self, unit: float) -> Outcome:
        for outcome, share in self.settings.outcomes.items():
            if unit < share:
                return outcome
            unit -= share
        return "completed"

    def _accept(self, terms: Terms) -> Job:
        job = Job(terms)
        self._jobs[terms.id] = job
        self._occurrences[terms.sha256] = self._occurrences.get(terms.sha256, 0) + 1
        if terms.key is not None:
            self._keys.setdefault(terms.scope, {})[terms.key] = job
        self.account.opened()
        return job

    def _happened(self, event: Cancelled | Deleted | Delivered) -> None:
        if self._write is not None:
            self._write(event)
        job = self._jobs[event.id]
        if not job.done and not isinstance(event, Delivered):
            self.slots.cancel(job, event.at)
            self.account.cancelled += 1
        match event:
            case Deleted():
                job.deleted = True
                self.account.deleted += 1
                if job.delivered is None:
                    self.account.open -= 1
            case Delivered():
                job.delivered = event.at
                self.account.delivered += 1
                self.account.open -= 1
            case Cancelled():
                pass

    def _restore(self, ledger: Ledger) -> None:
        """Lives through the events of the state file again, each at its own time."""
        for event in ledger.read():
            if isinstance(event, Terms):
                self.slots.advance(event.accepted)
                self.start(self._accept(event))
                self.account.restored += 1
            elif event.id in self._jobs:
                self.slots.advance(event.at)
                self._happened(event)
