"""The service as a state machine in the time of a given clock. Owns jobs, batches, keys and the stats."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Literal

from runner.config.simulation import RateLimit, Simulator
from runner.errors import ConfigError, Problem
from runner.simulator.api.batch_body import BatchSpec
from runner.simulator.api.request_body import JobSpec
from runner.simulator.service.batch import BatchTerms, SimulatedBatch
from runner.simulator.service.batch_index import BatchIndex
from runner.simulator.service.bucket import Bucket
from runner.simulator.service.job import JobTerms, SimulatedJob
from runner.simulator.service.ledger import Cancelled, Deleted, Delivered, Interner, Ledger, LedgerEvent
from runner.simulator.service.refusals import Refusal, key_conflict, not_found, throttled
from runner.simulator.service.sampling import JobSampler
from runner.simulator.service.slots import Slots
from runner.simulator.service.stats import Stats
from runner.simulator.service.time_slice import TimeSlice

KEY_KEPT_S = 86_400.0
_STARTED_AT_ONCE = 1000


class Service:
    """Given the same settings and the same bodies, the same jobs, whatever the order of arrival."""

    def __init__(self, settings: Simulator, clock: Callable[[], float], ledger: Ledger | None = None) -> None:
        self.settings = settings
        self.stats = Stats()
        self.slots = Slots(settings.capacity)
        self._clock = clock
        self._now = clock()
        self._jobs: dict[str, SimulatedJob] = {}
        self.batches = BatchIndex()
        self._keys: dict[str, dict[str, SimulatedJob | SimulatedBatch]] = {}
        self._lots = JobSampler(settings)
        limits = settings.rate_limits
        self._buckets = {"post": self._bucket(limits.post), "get": self._bucket(limits.get)}
        self._write: Callable[..., None] = _forget
        if ledger is not None:
            self._restore(ledger)
            self._write = ledger.write

    def now(self) -> float:
        """Catches up with the clock, which is taken never to go back."""
        self._now = max(self._now, self._clock())
        self.slots.advance(self._now)
        return self._now

    def throttle(self, method: Literal["post", "get"]) -> None:
        """Raises Refusal (429) where the rate limit says so."""
        bucket = self._buckets[method]
        if bucket is not None and (wait_s := bucket.take(self.now())):
            self.stats.throttled += 1
            raise throttled(str(max(1, math.ceil(wait_s))))

    def submit(
        self, order: JobSpec, body: bytes | bytearray, scope: str, key: str | None
    ) -> tuple[SimulatedJob, bool]:
        """The job for this request, and whether it is new. Raises Refusal where the key is another body's."""
        now = self.now()
        sha256 = hashlib.sha256(body).digest()
        known = self._known(sha256, scope, key, now)
        if known is not None:
            return self._replay(known), False
        terms = self._lots.terms(order, sha256, scope, now, self._jobs, key=key)
        self._write(terms)
        job = self._accept(terms)
        return job, True

    def known_batch(self, sha256: bytes, scope: str, key: str | None) -> SimulatedBatch | None:
        """The batch that was made with this key. Raises Refusal where the key is another body's."""
        known = self._known(sha256, scope, key, self.now())
        if isinstance(known, SimulatedJob):
            raise key_conflict()
        if known is not None:
            self.stats.batch_replays += 1
        return known

    def create_batch(
        self, draft: BatchSpec, sha256: bytes, scope: str, key: str | None
    ) -> Generator[float, None, SimulatedBatch]:
        """Works in slices. Nobody sees the batch or a job of it before this returns. Raises Refusal (500)."""
        lots, now, pace = self._lots, self.now(), TimeSlice()
        batch_id = lots.batch_id(sha256, self.batches)
        lots.count(sha256)
        jobs: dict[str, SimulatedJob] = {}
        by_id: dict[str, SimulatedJob] = {}
        unwritten: list[JobTerms] = []
        draft.items.reverse()
        while draft.items:
            item = draft.items.pop()  # taken off: what has become a job is not held twice
            terms = lots.terms(
                item.order, item.sha256, scope, now, self._jobs, batch=batch_id, custom_id=item.custom_id
            )
            lots.count(item.sha256)
            jobs[item.custom_id] = by_id[terms.id] = SimulatedJob(terms)
            unwritten.append(terms)
            if pace.due():
                self._write(*unwritten)
                unwritten.clear()
                yield 0.0
                pace.resume()
        terms_of_all = BatchTerms(batch_id, key, scope, sha256, draft.label, len(jobs), self.now())
        self._write(*unwritten, terms_of_all)
        self._jobs.update(by_id)
        return self._accept_batch(terms_of_all, jobs)

    def start_all(self) -> Iterator[float]:
        """Lets the jobs of new batches run or wait, in slices."""
        while not self.slots.fill(_STARTED_AT_ONCE):
            yield 0.0

    def start(self, job: SimulatedJob) -> None:
        """Lets a new job run, or wait for its turn; apart from `submit` so that its answer says pending."""
        self.slots.enter(job, job.terms.accepted)

    def find(self, id: str) -> SimulatedJob:  # noqa: A002  # the field's own word
        """Raises Refusal (404) for a job never seen, deleted, or no longer retained."""
        now = self.now()
        job = self._jobs.get(id)
        if job is None or job.deleted or self._forgotten(job, now):
            raise not_found(f"Response {id!r}")
        return job

    def find_batch(self, batch_id: str, scope: str) -> SimulatedBatch:
        """Raises Refusal (404) for a batch never seen, or of another API key."""
        self.now()
        return self.batches.find(batch_id, scope)

    def item(self, batch: SimulatedBatch, custom_id: str) -> SimulatedJob:
        """Raises Refusal (404) for a custom_id that is not of the batch, or a job no longer retained."""
        now = self.now()
        job = batch.jobs.get(custom_id)
        if job is None or job.deleted or self._forgotten(job, now):
            raise not_found(f"Request {custom_id[:200]!r} of batch {batch.terms.id!r}")
        return job

    def look(self, job: SimulatedJob) -> int:
        """Someone asks for the response of this job: how often that happened before."""
        if job.delivered is not None:
            self.stats.polls_after_delivery += 1
        job.gets += 1
        return job.gets - 1

    def cancel(self, job: SimulatedJob) -> None:
        """Does nothing to a job that is done."""
        if not job.terms.background:
            raise Refusal(400, "Only background responses can be cancelled.", code="not_background")
        now = self.now()
        if not job.done:
            self._happened(Cancelled(job.terms.id, now))

    def delete(self, job: SimulatedJob) -> None:
        """Also cancels a job that is not done."""
        self._happened(Deleted(job.terms.id, self.now()))

    def deliver(self, job: SimulatedJob) -> None:
        """A whole answer with the done job was sent."""
        if job.delivered is None and not job.deleted:
            with suppress(Refusal):  # the answer is gone already; that it was is not remembered
                self._happened(Delivered(job.terms.id, self.now()))

    def jobs(self) -> Iterator[SimulatedJob]:
        self.now()
        return iter(list(self._jobs.values()))

    def report(self) -> Stats:
        """The stats as of now."""
        self.now()
        self.stats.executed = self.slots.started
        self.stats.running = self.slots.running
        self.stats.peak_running = self.slots.peak_running
        return self.stats

    def _bucket(self, limit: RateLimit | None) -> Bucket | None:
        return None if limit is None else Bucket(limit, self._now)

    def _forgotten(self, job: SimulatedJob, now: float) -> bool:
        retention_s = self.settings.retention_s
        return retention_s is not None and job.delivered is not None and now - job.delivered > retention_s

    def _known(
        self, sha256: bytes, scope: str, key: str | None, now: float
    ) -> SimulatedJob | SimulatedBatch | None:
        known = None if key is None else self._keys.get(scope, {}).get(key)
        if known is None or now - known.terms.accepted >= KEY_KEPT_S:
            return None
        if known.terms.sha256 != sha256:
            raise key_conflict()
        return known

    def _replay(self, known: SimulatedJob | SimulatedBatch) -> SimulatedJob:
        if isinstance(known, SimulatedBatch):
            raise key_conflict()
        if known.deleted:
            raise not_found("The response of this Idempotency-Key")
        self.stats.replayed += 1
        return known

    def _accept(self, terms: JobTerms) -> SimulatedJob:
        job = SimulatedJob(terms)
        self._jobs[terms.id] = job
        self._lots.count(terms.sha256)
        if terms.key is not None:
            self._keys.setdefault(terms.scope, {})[terms.key] = job
        self.stats.opened(1)
        return job

    def _accept_batch(self, terms: BatchTerms, jobs: dict[str, SimulatedJob]) -> SimulatedBatch:
        batch = self.batches.add(terms, jobs)
        if terms.key is not None:
            self._keys.setdefault(terms.scope, {})[terms.key] = batch
        self.stats.batches += 1
        self.stats.opened(len(jobs))
        self.slots.queue(jobs.values(), terms.accepted)
        return batch

    def _happened(self, event: Cancelled | Deleted | Delivered) -> None:
        self._write(event)
        job = self._jobs[event.id]
        if not job.done and not isinstance(event, Delivered):
            self.slots.cancel(job, event.at)
            self.stats.cancelled += 1
        match event:
            case Deleted():
                job.deleted = True
                self.stats.deleted += 1
                if job.delivered is None:
                    self.stats.open -= 1
            case Delivered():
                job.delivered = event.at
                self.stats.delivered += 1
                self.stats.open -= 1
            case Cancelled():
                pass

    def _restore(self, ledger: Ledger) -> None:
        """Lives through the events of the state file again, each at its own time."""
        unfinished: dict[str, list[JobTerms]] = {}
        share = Interner().share
        for event in ledger.read():
            if isinstance(event, JobTerms):
                share(event)
                if event.batch is not None:
                    unfinished.setdefault(event.batch, []).append(event)
                    continue
                self.slots.advance(event.accepted)
                self.start(self._accept(event))
                self.stats.restored += 1
            elif isinstance(event, BatchTerms):
                self._restore_batch(event, unfinished.pop(event.id, []))
            elif event.id in self._jobs:
                self.slots.advance(event.at)
                self._happened(event)

    def _restore_batch(self, terms: BatchTerms, of_jobs: list[JobTerms]) -> None:
        # Before them may be those of an attempt to create the same batch that was not completed.
        jobs = {
            job.custom_id: SimulatedJob(job) for job in of_jobs[-terms.count :] if job.custom_id is not None
        }
        if len(jobs) != terms.count:
            raise ConfigError(Problem(f"the simulator state lacks requests of the batch {terms.id}"))
        self.slots.advance(terms.accepted)
        self._lots.count(terms.sha256)
        for job in jobs.values():
            self._lots.count(job.terms.sha256)
            self._jobs[job.terms.id] = job
        self._accept_batch(terms, jobs)
        for _ in self.start_all():
            pass
        self.stats.restored += terms.count


def _forget(*events: LedgerEvent) -> None:
    """Stands for the state file where there is none."""
