"""The service as a state machine in the time of a given clock. Owns jobs, batches, keys and stats."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Final, Literal

from runner.config.simulation import RateLimit, Simulator
from runner.errors import ConfigError, Problem
from runner.simulator.service.batch import BatchTerms, SimulatedBatch
from runner.simulator.service.batch_index import BatchIndex
from runner.simulator.service.bucket import Bucket
from runner.simulator.service.idempotency import IdempotencyKeys
from runner.simulator.service.interner import Interner
from runner.simulator.service.job import JobTerms, SimulatedJob
from runner.simulator.service.ledger import (
    Cancelled,
    Deleted,
    Delivered,
    Ledger,
    LedgerEvent,
    share_strings,
)
from runner.simulator.service.refusals import Refusal, not_found, throttled
from runner.simulator.service.sampling import JobSampler
from runner.simulator.service.slots import Slots
from runner.simulator.service.spec import BatchSpec, JobSpec
from runner.simulator.service.stats import Stats
from runner.simulator.service.time_slice import TimeSlice

_STARTED_AT_ONCE: Final = 1000


class Service:
    """The simulated service. The same settings and bodies give the same jobs, in any order of arrival."""

    def __init__(self, settings: Simulator, clock: Callable[[], float], ledger: Ledger | None = None) -> None:
        self.settings = settings
        self.stats = Stats()
        self.slots = Slots(settings.capacity)
        self.batches = BatchIndex()
        self._clock = clock
        self._now = clock()
        self._jobs: dict[str, SimulatedJob] = {}
        self._keys = IdempotencyKeys()
        self._sampler = JobSampler(settings)
        limits = settings.rate_limits
        self._buckets = {"post": self._bucket(limits.post), "get": self._bucket(limits.get)}
        self._write: Callable[..., None] = _forget
        if ledger is not None:
            self._restore(ledger)
            self._write = ledger.write

    def now(self) -> float:
        """Catch up with the clock and return the time in Unix seconds; it never goes back."""
        self._now = max(self._now, self._clock())
        self.slots.advance(self._now)
        return self._now

    def throttle(self, method: Literal["post", "get"]) -> None:
        """Take a token of the method's rate limit. Raises Refusal (429) if there is none."""
        bucket = self._buckets[method]
        if bucket is not None and (wait_s := bucket.take(self.now())):
            self.stats.throttled += 1
            raise throttled(str(max(1, math.ceil(wait_s))))

    def submit(self, spec: JobSpec, sha256: bytes, scope: str, key: str | None) -> tuple[SimulatedJob, bool]:
        """Return the job for a request, and whether it is new. Raises Refusal on a key conflict.

        A new job is `start`ed by the caller once its acknowledgement is written, which says "pending".
        """
        now = self.now()
        known = self._keys.job(key, scope, sha256, now)
        if known is None:
            terms = self._sampler.terms(spec, sha256, scope, now, self._jobs, key=key)
            self._write(terms)
            return self._accept(terms), True
        if known.deleted:
            raise not_found("The response of this Idempotency-Key")
        self.stats.replayed += 1
        return known, False

    def start(self, job: SimulatedJob) -> None:
        """Let a new job run, or wait for its slot."""
        self.slots.enter(job, job.terms.accepted)

    def known_batch(self, sha256: bytes, scope: str, key: str | None) -> SimulatedBatch | None:
        """Return the batch created with this key, or None. Raises Refusal on a key conflict."""
        known = self._keys.batch(key, scope, sha256, self.now())
        if known is not None:
            self.stats.batch_replays += 1
        return known

    def create_batch(
        self, spec: BatchSpec, sha256: bytes, scope: str, key: str | None
    ) -> Generator[float, None, SimulatedBatch]:
        """Create a batch in slices and return it; until then neither it nor its jobs are visible.

        Yields seconds to rest (0). Empties `spec.requests`. Raises Refusal (500).
        """
        sampler, now, time_slice = self._sampler, self.now(), TimeSlice()
        batch_id = sampler.batch_id(sha256, self.batches)
        sampler.count(sha256)
        jobs: dict[str, SimulatedJob] = {}
        by_id: dict[str, SimulatedJob] = {}
        unwritten: list[JobTerms] = []
        spec.requests.reverse()
        while spec.requests:
            request = spec.requests.pop()  # so that nothing is held twice, as request and as job
            terms = sampler.terms(
                request.job,
                request.sha256,
                scope,
                now,
                self._jobs,
                batch=batch_id,
                custom_id=request.custom_id,
            )
            sampler.count(request.sha256)
            jobs[request.custom_id] = by_id[terms.id] = SimulatedJob(terms)
            unwritten.append(terms)
            if time_slice.is_over():
                self._write(*unwritten)
                unwritten.clear()
                yield 0.0
                time_slice.restart()
        terms_of_all = BatchTerms(batch_id, key, scope, sha256, spec.label, len(jobs), self.now())
        self._write(*unwritten, terms_of_all)
        self._jobs.update(by_id)
        return self._accept_batch(terms_of_all, jobs)

    def start_all(self) -> Iterator[float]:
        """Let the jobs of new batches run or wait. Works in slices and yields seconds to rest (0)."""
        while not self.slots.fill(_STARTED_AT_ONCE):
            yield 0.0

    def find(self, job_id: str) -> SimulatedJob:
        """Return a job by its id. Raises Refusal (404) if it is unknown, deleted or no longer retained."""
        job = self._retained(self._jobs.get(job_id))
        if job is None:
            raise not_found(f"Response {job_id!r}")
        return job

    def find_batch(self, batch_id: str, scope: str) -> SimulatedBatch:
        """Return a batch by its id. Raises Refusal (404) if it is unknown or of another API key."""
        self.now()
        return self.batches.find(batch_id, scope)

    def find_result(self, batch: SimulatedBatch, custom_id: str) -> SimulatedJob:
        """Return a batch's job by its custom_id. Raises Refusal (404) if unknown or no longer retained."""
        job = self._retained(batch.jobs.get(custom_id))
        if job is None:
            raise not_found(f"Request {custom_id[:200]!r} of batch {batch.terms.id!r}")
        return job

    def count_poll(self, job: SimulatedJob) -> int:
        """Count a poll of this job; return the number of polls before it."""
        if job.delivered is not None:
            self.stats.polls_after_delivery += 1
        job.gets += 1
        return job.gets - 1

    def cancel(self, job: SimulatedJob) -> None:
        """Cancel a job, unless it is done. Raises Refusal (400) for a foreground job."""
        if not job.terms.background:
            raise Refusal(400, "Only background responses can be cancelled.", code="not_background")
        now = self.now()
        if not job.done:
            self._record(Cancelled(job.terms.id, now))

    def delete(self, job: SimulatedJob) -> None:
        """Delete a job; cancel it first if it is not done."""
        self._record(Deleted(job.terms.id, self.now()))

    def deliver(self, job: SimulatedJob) -> None:
        """Record that a whole reply with the finished job was sent."""
        if job.delivered is None and not job.deleted:
            with suppress(Refusal):  # disk full: the reply is sent already, only its record is lost
                self._record(Delivered(job.terms.id, self.now()))

    def jobs(self) -> Iterator[SimulatedJob]:
        """Iterate over all jobs, deleted ones included, in the order of acceptance."""
        self.now()
        return iter(list(self._jobs.values()))

    def report(self) -> Stats:
        """Return the stats as of now."""
        self.now()
        self.stats.executed = self.slots.started
        self.stats.running = self.slots.running
        self.stats.peak_running = self.slots.peak_running
        return self.stats

    def _bucket(self, limit: RateLimit | None) -> Bucket | None:
        return None if limit is None else Bucket(limit, self._now)

    def _retained(self, job: SimulatedJob | None) -> SimulatedJob | None:
        """Return the job as of now, or None if it can no longer be polled."""
        now, retention_s = self.now(), self.settings.retention_s
        if job is None or job.deleted:
            return None
        if retention_s is not None and job.delivered is not None and now - job.delivered > retention_s:
            return None
        return job

    def _accept(self, terms: JobTerms) -> SimulatedJob:
        job = SimulatedJob(terms)
        self._jobs[terms.id] = job
        self._sampler.count(terms.sha256)
        self._keys.remember(job)
        self.stats.opened(1)
        return job

    def _accept_batch(self, terms: BatchTerms, jobs: dict[str, SimulatedJob]) -> SimulatedBatch:
        batch = self.batches.add(terms, jobs)
        self._keys.remember(batch)
        self.stats.batches += 1
        self.stats.opened(len(jobs))
        self.slots.queue(jobs.values(), terms.accepted)
        return batch

    def _record(self, event: Cancelled | Deleted | Delivered) -> None:
        """Write an event to the state file, then apply it. Raises Refusal (500)."""
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
        """Replay the events of the state file, each at its own time."""
        incomplete: dict[str, list[JobTerms]] = {}
        """Jobs by batch while the batch's own line has not been read."""
        interner = Interner()
        for event in ledger.read():
            if isinstance(event, JobTerms):
                share_strings(event, interner)
                if event.batch is not None:
                    incomplete.setdefault(event.batch, []).append(event)
                    continue
                self.slots.advance(event.accepted)
                self.start(self._accept(event))
                self.stats.restored += 1
            elif isinstance(event, BatchTerms):
                self._restore_batch(event, incomplete.pop(event.id, []))
            elif event.id in self._jobs:
                self.slots.advance(event.at)
                self._record(event)

    def _restore_batch(self, terms: BatchTerms, of_jobs: list[JobTerms]) -> None:
        # Earlier lines may be left from an attempt to create the same batch that did not complete.
        jobs = {
            job.custom_id: SimulatedJob(job) for job in of_jobs[-terms.count :] if job.custom_id is not None
        }
        if len(jobs) != terms.count:
            raise ConfigError(Problem(f"the simulator's state file lacks requests of batch {terms.id}"))
        self.slots.advance(terms.accepted)
        self._sampler.count(terms.sha256)
        for job in jobs.values():
            self._sampler.count(job.terms.sha256)
            self._jobs[job.terms.id] = job
        self._accept_batch(terms, jobs)
        for _ in self.start_all():
            pass
        self.stats.restored += terms.count


def _forget(*events: LedgerEvent) -> None:
    """Do nothing: stands in for the state file if there is none."""
