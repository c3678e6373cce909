"""Everything a run counts and times: written by the session, read by the outputs and the summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.measure.counts import Counts, Tally
from runner.measure.histogram import Histogram, HistogramCounts
from runner.measure.latencies import Latencies
from runner.measure.milestones import Milestones
from runner.records import Timing, Usage
from runner.store.results import ResultHead
from runner.transport.reading import read_usage


class Meter:
    """Counters and timings of one process, or of a whole run, earlier sessions included.

    It only measures: where each row stands is `InFlight`, and no decision is made here.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        """Counters; a coordinator replaces the object by the merged counts of all processes."""
        self.latencies = Latencies()
        self.milestones = Milestones()
        self.restarts: list[float] = []
        """Times at which later sessions began, in Unix seconds: before each, nobody polled for a while."""
        self.accepting_s = 0.0
        """Seconds between the first and the last acceptance, summed over earlier sessions."""

    @property
    def statuses(self) -> Tally:
        """Results on record by status."""
        return self.counts.statuses

    @property
    def tokens(self) -> Tally:
        """Tokens used: `input`, `cached`, `output`, `reasoning`."""
        return self.counts.tokens

    @property
    def wire(self) -> Tally:
        """HTTP exchanges and bytes: `requests`, `sent_bytes`, `received_bytes`."""
        return self.counts.wire

    @property
    def began(self) -> float | None:
        """Time at which the first session began, in Unix seconds; None until then."""
        return self.milestones.began

    @property
    def done(self) -> int:
        """Requests with a result on record."""
        return self.counts.statuses.total()

    @property
    def not_completed(self) -> int:
        """Requests with a result whose status is not `completed`."""
        return self.done - self.counts.statuses["completed"]

    @property
    def retries(self) -> int:
        """POSTs and polls that were retried."""
        return self.counts.submit_retries.total() + self.counts.poll_retries.total()

    @property
    def total_accepting_s(self) -> float:
        """Seconds in which requests were being accepted, over all sessions."""
        first, last = self.counts.first_accepted_mono, self.counts.last_accepted_mono
        return self.accepting_s + (0.0 if first is None or last is None else last - first)

    def begin(self, at: float) -> None:
        """Note that a session begins, at a Unix time; only the first one of a run counts."""
        if self.milestones.began is None:
            self.milestones.began = at

    def accept(self, at: float, now_mono: float, count: int = 1, since_mono: float | None = None) -> None:
        """Count `count` requests that the service accepted now, which is `at` in Unix seconds.

        `since_mono` is when the service began to take them in, where that took long, as for a batch: the
        acceptances of a few batches would otherwise appear to take no time.
        """
        counts = self.counts
        counts.accepted += count
        counts.last_accepted_mono = now_mono
        if counts.first_accepted_mono is None:
            counts.first_accepted_mono = now_mono if since_mono is None else since_mono
        if counts.last_accepted is None or at > counts.last_accepted:
            counts.last_accepted = at

    def recall_accepted(self, at: float) -> None:
        """Note that the service accepted a request in an earlier session, `at` in Unix seconds."""
        last = self.counts.last_accepted
        if last is None or at > last:
            self.counts.last_accepted = at

    def finished(self, status: str, timing: Timing, usage: Usage) -> None:
        """Count a result that is on record."""
        counts, milestones = self.counts, self.milestones
        counts.statuses[status] += 1
        done = timing.done
        if counts.first_done is None or done < counts.first_done:
            counts.first_done = done
        if counts.last_done is None or done > counts.last_done:
            counts.last_done = done
        if milestones.began is not None:
            milestones.done.record(done - milestones.began)
        if self.restarts and self._spans_a_restart(timing):
            counts.spanned += 1
        else:
            self.latencies.record(status, timing)
        self._use(usage)

    def recall(self, line: ResultHead) -> None:
        """Count a result of an earlier session."""
        if line.timing.accepted is not None:
            self.recall_accepted(line.timing.accepted)
        self.finished(line.status, line.timing, read_usage(line.usage))
        self._recall_exchanges(line)

    def recall_superseded(self, line: ResultHead) -> None:
        """Count what a result of an earlier epoch cost; it is no longer the result of its row."""
        self.counts.superseded += 1
        self._use(read_usage(line.usage))
        self._recall_exchanges(line)

    def recall_counters(self, sample: Mapping[str, Any]) -> None:
        """Take what results do not say from the last line of an earlier session's `metrics.jsonl`."""
        counts = self.counts
        polls, accepting_s = sample.get("polls"), sample.get("accepting_s")
        if isinstance(polls, int):  # includes the polls of jobs that are still outstanding
            counts.polls = max(counts.polls, polls)
        if isinstance(accepting_s, int | float):
            self.accepting_s = float(accepting_s)
        _recall(counts.wire, sample.get("wire"))
        retries = sample.get("retries")
        if isinstance(retries, dict):
            _recall(counts.submit_retries, retries.get("submit"))
            _recall(counts.poll_retries, retries.get("poll"))

    def _spans_a_restart(self, timing: Timing) -> bool:
        began = timing.due if timing.sent is None else timing.sent
        return any(began < restart < timing.done for restart in self.restarts)

    def _recall_exchanges(self, line: ResultHead) -> None:
        self.counts.polls += line.polls
        self.counts.accepted += line.timing.accepted is not None

    def _use(self, usage: Usage) -> None:
        if usage.input or usage.output:
            tokens = self.counts.tokens
            tokens["input"] += usage.input
            tokens["cached"] += usage.cached
            tokens["output"] += usage.output
            tokens["reasoning"] += usage.reasoning


def take_latencies(meter: Meter) -> dict[str, HistogramCounts]:
    """Return what every histogram of the meter recorded since the last call, for `add_latencies`."""
    return {name: histogram.take() for name, histogram in _histograms(meter)}


def add_latencies(meter: Meter, latencies: Mapping[str, HistogramCounts]) -> None:
    """Add what was taken from the histograms of another meter; histograms that are absent stay."""
    for name, histogram in _histograms(meter):
        if name in latencies:
            histogram.add(latencies[name])


def _histograms(meter: Meter) -> Iterator[tuple[str, Histogram]]:
    """Yield every histogram of the meter and of its parts, found by type, with a name of its own."""
    for name, part in vars(meter).items():
        if isinstance(part, Histogram):
            yield name, part
        for inner, value in getattr(part, "__dict__", {}).items():
            if isinstance(value, Histogram):
                yield f"{name}.{inner}", value


def _recall(tally: Tally, counts: object) -> None:
    if isinstance(counts, dict):
        tally.update({name: count for name, count in counts.items() if isinstance(count, int)})
