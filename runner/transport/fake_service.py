"""The service behind the fake transport: jobs, batches and limits in memory, at times given by the caller."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from runner.records import ResultStatus, Usage
from runner.transport.fake_outcomes import USAGE, done, gone, rejected, throttled, unsupported
from runner.transport.outcomes import (
    PENDING,
    Accepted,
    BatchEntry,
    BatchOutcome,
    CancelOutcome,
    Created,
    CreateOutcome,
    Done,
    Listing,
    ListOutcome,
    RetrieveOutcome,
    Statuses,
    SubmitOutcome,
    Throttled,
)


@dataclass(eq=False, slots=True)
class FakeJob:
    """One job of the service, or one request of a batch. Times are event loop times, in seconds."""

    id: str
    number: int
    """Position among all jobs of the service by the time they were made, from 1."""
    body: bytes
    key: str
    made_mono: float
    batch_id: str = ""
    custom_id: str = ""
    """Id within its batch; empty for a job of its own."""
    ends_mono: float = math.inf
    status: ResultStatus = "completed"
    """Status from `ends_mono` on."""
    is_lost: bool = False
    """Whether the service no longer knows the job; a test may set it."""


@dataclass(eq=False, slots=True)
class FakeBatch:
    """One batch of the service."""

    id: str
    label: str | None
    key: str
    made_mono: float
    jobs: dict[str, FakeJob]
    """Requests by `custom_id`, in the order of the body."""
    is_lost: bool = False
    """Whether the service no longer knows the batch; a test may set it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """How the service treats requests that no script is about."""

    takes_s: float | Callable[[FakeJob], float] = 1.0
    """Seconds from the POST to the end of a job; `math.inf` for a job that never ends."""
    ends: ResultStatus | Callable[[FakeJob], ResultStatus] = "completed"
    usage: Usage = USAGE
    honours_keys: bool = True
    """Whether a POST with a known idempotency key is answered with the job, or the batch, of that key."""
    max_jobs: float = math.inf
    """Unfinished jobs at which a POST is throttled."""
    posts_per_s: float = math.inf
    """Rate above which a POST of a job or a batch is throttled, with bursts of one second's worth."""
    gets_per_s: float = math.inf
    """Rate above which a GET of any kind is throttled, with bursts of one second's worth."""
    retry_after_s: float | None = None
    """Wait that the service asks for when it throttles."""
    cancel_s: float | None = 0.0
    """Seconds until a cancelled job has ended; None for a service that cannot cancel."""
    lists_batches: bool = True
    lists_labels: bool = True
    listed_after_s: float = 0.0
    """Age at which a batch appears in the list."""
    unix: Callable[[float], float] = float
    """Unix time of a loop time, for `created_at` of a batch; the same number by default."""


@dataclass(slots=True)
class Gauge:
    """A count that goes up and down, and the highest value it had."""

    now: int = 0
    most: int = 0

    def up(self) -> None:
        """Count one more."""
        self.now += 1
        self.most = max(self.most, self.now)

    def down(self) -> None:
        """Count one less."""
        self.now -= 1


class _Item(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _BatchBody(msgspec.Struct):
    requests: list[_Item]
    label: str | None = None


_decode_batch: Final = msgspec.json.Decoder(_BatchBody).decode


@dataclass(eq=False)
class FakeService:
    """State of the service. Every method answers one exchange that arrives at the loop time `now_mono`."""

    behaviour: Behaviour
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    """Jobs by id, without the requests of batches."""
    batches: dict[str, FakeBatch] = field(default_factory=dict)
    running: Gauge = field(default_factory=Gauge)
    """Jobs and requests of batches that have not ended; up to date as of the last POST."""
    in_flight: Gauge = field(default_factory=Gauge)
    """Jobs and requests of batches whose end was not answered to anybody yet."""

    def __post_init__(self) -> None:
        self._made = 0
        self._by_key: dict[str, FakeJob | FakeBatch] = {}
        self._ends: list[tuple[float, int, FakeJob]] = []
        self._unfetched: set[FakeJob] = set()
        self._posts, self._gets = _TokenBucket(), _TokenBucket()

    def submit(self, body: bytes, key: str, now_mono: float) -> SubmitOutcome:
        """Make a job, or answer with the one that the key already has."""
        if not self._posts.take(self.behaviour.posts_per_s, now_mono):
            return self._throttled()
        known = self._by_key.get(key) if self.behaviour.honours_keys else None
        if isinstance(known, FakeJob):
            return self._end_of(known, now_mono) or Accepted(known.id)
        if self._running_at(now_mono) >= self.behaviour.max_jobs:
            return self._throttled()
        self._made += 1
        job = FakeJob(f"job-{self._made}", self._made, body, key, now_mono)
        self.jobs[job.id] = self._by_key[key] = job
        self._begin(job)
        return Accepted(job.id)

    def retrieve(self, job_id: str, now_mono: float) -> RetrieveOutcome:
        """Answer with the status of a job."""
        if not self._gets.take(self.behaviour.gets_per_s, now_mono):
            return self._throttled()
        return self._look(self.jobs.get(job_id), now_mono)

    def cancel(self, job_id: str, now_mono: float) -> CancelOutcome:
        """End a job after `Behaviour.cancel_s`, unless it ends earlier by itself."""
        job, cancel_s = self.jobs.get(job_id), self.behaviour.cancel_s
        if job is None or job.is_lost:
            return rejected("Not found.", 404)
        if cancel_s is None:
            return rejected("Jobs cannot be cancelled.", 405)
        if now_mono + cancel_s < job.ends_mono:
            job.ends_mono, job.status = now_mono + cancel_s, "cancelled"
            heapq.heappush(self._ends, (job.ends_mono, job.number, job))
        return self._end_of(job, now_mono) or PENDING

    def create_batch(self, body: bytes, key: str, now_mono: float) -> CreateOutcome:
        """Make a batch of the requests in `body`, or answer with the one that the key already has."""
        if not self._posts.take(self.behaviour.posts_per_s, now_mono):
            return self._throttled()
        known = self._by_key.get(key) if self.behaviour.honours_keys else None
        if isinstance(known, FakeBatch):
            return Created(known.id, len(known.jobs))
        if self._running_at(now_mono) >= self.behaviour.max_jobs:
            return self._throttled()
        decoded = _decode_batch(body)
        batch = FakeBatch(f"batch-{len(self.batches) + 1}", decoded.label, key, now_mono, {})
        for item in decoded.requests:
            self._made += 1
            job_id = f"{batch.id}-{item.custom_id}"
            job = FakeJob(job_id, self._made, bytes(item.params), key, now_mono, batch.id, item.custom_id)
            batch.jobs[item.custom_id] = job
            self._begin(job)
        self.batches[batch.id] = self._by_key[key] = batch
        return Created(batch.id, len(batch.jobs))

    def retrieve_batch(self, batch_id: str, now_mono: float) -> BatchOutcome:
        """Answer with the statuses of all requests of a batch."""
        if not self._gets.take(self.behaviour.gets_per_s, now_mono):
            return self._throttled()
        batch = self.batches.get(batch_id)
        if batch is None or batch.is_lost:
            return gone()
        words = {
            name: {"status": job.status if job.ends_mono <= now_mono else "in_progress"}
            for name, job in batch.jobs.items()
        }
        return Statuses(msgspec.Raw(msgspec.json.encode(words)))

    def batch_result(self, batch_id: str, custom_id: str, now_mono: float) -> RetrieveOutcome:
        """Answer with the result of one request of a batch."""
        if not self._gets.take(self.behaviour.gets_per_s, now_mono):
            return self._throttled()
        batch = self.batches.get(batch_id)
        return self._look(None if batch is None or batch.is_lost else batch.jobs.get(custom_id), now_mono)

    def list_batches(self, before_id: str | None, limit: int, now_mono: float) -> ListOutcome:
        """Answer with one page of batches older than `before_id`, newest first."""
        if not self._gets.take(self.behaviour.gets_per_s, now_mono):
            return self._throttled()
        if not self.behaviour.lists_batches:
            return unsupported()
        newest_mono = now_mono - self.behaviour.listed_after_s
        listed = [it for it in reversed(self.batches.values()) if it.made_mono <= newest_mono]
        ids = [it.id for it in listed]
        start = ids.index(before_id) + 1 if before_id in ids else 0
        return Listing(tuple(self._entries(listed[start : start + limit])))

    def _entries(self, batches: Iterable[FakeBatch]) -> Iterable[BatchEntry]:
        for batch in batches:
            label = batch.label if self.behaviour.lists_labels else None
            yield BatchEntry(batch.id, label, self.behaviour.unix(batch.made_mono), len(batch.jobs))

    def _begin(self, job: FakeJob) -> None:
        takes_s, ends = self.behaviour.takes_s, self.behaviour.ends
        job.ends_mono = job.made_mono + (takes_s(job) if callable(takes_s) else takes_s)
        job.status = ends(job) if callable(ends) else ends
        heapq.heappush(self._ends, (job.ends_mono, job.number, job))
        self._unfetched.add(job)
        self.running.up()
        self.in_flight.up()

    def _look(self, job: FakeJob | None, now_mono: float) -> RetrieveOutcome:
        if job is None:
            return gone()
        if job.is_lost:
            self._fetched(job)
            return gone()
        return self._end_of(job, now_mono) or PENDING

    def _end_of(self, job: FakeJob, now_mono: float) -> Done | None:
        if job.ends_mono > now_mono:
            return None
        self._fetched(job)
        return done(job.id, job.status, self.behaviour.usage)

    def _fetched(self, job: FakeJob) -> None:
        if job in self._unfetched:
            self._unfetched.remove(job)
            self.in_flight.down()

    def _running_at(self, now_mono: float) -> int:
        while self._ends and self._ends[0][0] <= now_mono:
            ended_mono, _, job = heapq.heappop(self._ends)
            if ended_mono == job.ends_mono:  # not the end that a cancellation brought forward
                self.running.down()
        return self.running.now

    def _throttled(self) -> Throttled:
        return throttled(self.behaviour.retry_after_s)


class _TokenBucket:
    """A bucket of one second's tokens, at least one, full at first."""

    def __init__(self) -> None:
        self._tokens = math.inf
        self._filled_mono = 0.0

    def take(self, rate_per_s: float, now_mono: float) -> bool:
        """Take a token and return True, or return False if there is none."""
        if rate_per_s == math.inf:
            return True
        more = (now_mono - self._filled_mono) * rate_per_s
        self._tokens = min(self._tokens + more, max(rate_per_s, 1.0))
        self._filled_mono = now_mono
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
