"""Everything a run counts and times. Written to by the pipeline; read by progress, metrics and summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from runner.measure.histogram import Histogram
from runner.measure.milestones import Milestones
from runner.records import RESULT_STATUSES, Timing, Usage
from runner.store.results import ResultHead
from runner.transport.reading import read_usage


class Latencies:
    """One histogram for each span of a request's life.

    `schedule_delay`: due → first POST. `submit`: first POST → accepted. `completion`: due → done.
    `detection_lag_bound`: last seen unfinished → seen done; the job ended somewhere in there.
    `poll`: one GET.
    """

    def __init__(self) -> None:
        self.schedule_delay = Histogram()
        self.submit = Histogram()
        self.completion = Histogram()
        self.detection_lag_bound = Histogram()
        self.poll = Histogram()

    def record(self, status: str, timing: Timing) -> None:
        """Count one finished request. Only a completed one has a latency: a refusal is not a fast answer."""
        if timing.sent is not None:
            self.schedule_delay.record(timing.sent - timing.due)
            if timing.accepted is not None:
                self.submit.record(timing.accepted - timing.sent)
        if status == "completed":
            self.completion.record(timing.done - timing.due)
            if timing.accepted is not None:
                seen_open = timing.accepted if timing.pending is None else timing.pending
                self.detection_lag_bound.record(timing.done - seen_open)

    def summary(self) -> dict[str, dict[str, float | None]]:
        return {
            "schedule_delay": self.schedule_delay.summary(),
            "submit": self.submit.summary(),
            "completion": self.completion.summary(),
            "detection_lag_bound": self.detection_lag_bound.summary(),
            "poll": self.poll.summary(),
        }


class Meter:
    """Totals of the run, those of earlier sessions included; state of this one."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.statuses: Counter[str] = Counter(dict.fromkeys(RESULT_STATUSES, 0))
        self.tokens: Counter[str] = Counter(input=0, cached=0, output=0, reasoning=0)
        self.submit_retries: Counter[str] = Counter()
        self.poll_retries: Counter[str] = Counter()
        self.wire: Counter[str] = Counter(requests=0, sent_bytes=0, received_bytes=0)
        """HTTP exchanges that were tried, and the bytes of their messages before TLS."""
        self.milestones = Milestones()
        self.superseded = 0
        """Results of earlier epochs: paid for, and no row's last word."""
        self.latencies = Latencies()
        self.accepted = 0
        self.polls = 0
        self.posting = 0
        self.open = 0
        """Accepted requests without a result on record."""
        self.unacknowledged = 0
        """Requests that the service may know of without our having heard so."""
        self.restarts: list[float] = []
        """Unix seconds at which later sessions began: before each, nobody watched for a while."""
        self.spanned = 0
        """Requests under way over such a time; their latencies would be the client's own absence."""
        self.accepting_s = 0.0
        """Seconds of earlier sessions between their first acceptance and their last."""
        self.first_accepted: float | None = None
        self.last_accepted = 0.0

    @property
    def began(self) -> float | None:
        """Unix seconds at which the first session began; None until then."""
        return self.milestones.began

    def begin(self, at: float) -> None:
        """A session begins; the first one counts."""
        if self.milestones.began is None:
            self.milestones.began = at

    @property
    def done(self) -> int:
        """Requests with a result."""
        return self.statuses.total()

    @property
    def not_completed(self) -> int:
        return self.done - self.statuses["completed"]

    @property
    def submitted(self) -> int:
        """Requests that need no POST any more: accepted, or ended without."""
        return self.done + self.open

    @property
    def unsent(self) -> int:
        return max(self.total - self.done - self.open, 0)

    @property
    def retries(self) -> int:
        return self.submit_retries.total() + self.poll_retries.total()

    def finished(self, status: str, timing: Timing, usage: Usage) -> None:
        """A result is on record."""
        self.statuses[status] += 1
        self.milestones.finish(timing)
        if self.restarts and self._spans_a_restart(timing):
            self.spanned += 1
        else:
            self.latencies.record(status, timing)
        self._use(usage)

    def accept(self, now: float, count: int = 1, since: float | None = None) -> None:
        """The service took a request, or a batch of `count`; `now` on a monotonic clock.

        One that took long to be taken in says `since` when: a few batches would be accepted in no time else.
        """
        self.accepted += count
        self.last_accepted = now
        if self.first_accepted is None:
            self.first_accepted = now if since is None else since

    @property
    def total_accepting_s(self) -> float:
        """Seconds in which requests were being accepted, over all sessions."""
        since = 0.0 if self.first_accepted is None else self.last_accepted - self.first_accepted
        return self.accepting_s + since

    def _spans_a_restart(self, timing: Timing) -> bool:
        began = timing.due if timing.sent is None else timing.sent
        return any(began < restart < timing.done for restart in self.restarts)

    def recall(self, line: ResultHead) -> None:
        """A result of an earlier session."""
        self.finished(line.status, line.timing, read_usage(line.usage))
        self.polls += line.polls
        self.accepted += line.timing.accepted is not None

    def recall_superseded(self, line: ResultHead) -> None:
        """A result of an earlier epoch: no longer the row's, but its tokens were paid for."""
        self.superseded += 1
        self._use(read_usage(line.usage))
        self.polls += line.polls
        self.accepted += line.timing.accepted is not None

    def _use(self, usage: Usage) -> None:
        if usage.input or usage.output:
            self.tokens["input"] += usage.input
            self.tokens["cached"] += usage.cached
            self.tokens["output"] += usage.output
            self.tokens["reasoning"] += usage.reasoning

    def recall_counters(self, last_sample: Mapping[str, Any]) -> None:
        """What results do not tell, from the last line of an earlier session's `metrics.jsonl`."""
        polls, accepting_s = last_sample.get("polls"), last_sample.get("accepting_s")
        if isinstance(polls, int):  # those of jobs that are still open, too
            self.polls = max(self.polls, polls)
        if isinstance(accepting_s, int | float):
            self.accepting_s = float(accepting_s)
        _recall(self.wire, last_sample.get("wire"))
        retries = last_sample.get("retries")
        if isinstance(retries, dict):
            _recall(self.submit_retries, retries.get("submit"))
            _recall(self.poll_retries, retries.get("poll"))


def _recall(counter: Counter[str], counts: Any) -> None:
    if isinstance(counts, dict):
        counter.update({name: count for name, count in counts.items() if isinstance(count, int)})
