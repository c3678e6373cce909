"""How long each part of a request's life takes: one histogram for each."""

from __future__ import annotations

import msgspec

from runner.measure.histogram import Distribution, Histogram
from runner.records import Timing


class LatencySummary(msgspec.Struct, frozen=True):
    """`latency_s` of `summary.json`; a field for each histogram of `Latencies`, in seconds."""

    schedule_delay: Distribution
    submit: Distribution
    completion: Distribution
    detection_lag_bound: Distribution
    poll: Distribution


class Latencies:
    """One histogram for each part of a request's life.

    - `schedule_delay`: from due to the first POST.
    - `submit`: from the first POST to the acceptance.
    - `completion`: from due to done.
    - `detection_lag_bound`: from the last time it was seen unfinished to done; the job ended in between.
    - `poll`: one GET.
    """

    def __init__(self) -> None:
        self.schedule_delay = Histogram()
        self.submit = Histogram()
        self.completion = Histogram()
        self.detection_lag_bound = Histogram()
        self.poll = Histogram()

    def record(self, status: str, timing: Timing) -> None:
        """Count one finished request.

        Only a completed request has a completion time, because a fast refusal is not a fast answer.
        """
        if timing.sent is not None:
            self.schedule_delay.record(timing.sent - timing.due)
            if timing.accepted is not None:
                self.submit.record(timing.accepted - timing.sent)
        if status == "completed":
            self.completion.record(timing.done - timing.due)
            if timing.accepted is not None:
                seen_unfinished = timing.accepted if timing.pending is None else timing.pending
                self.detection_lag_bound.record(timing.done - seen_unfinished)

    def summary(self) -> LatencySummary:
        """Return mean, quantiles and maximum of each histogram."""
        return LatencySummary(
            schedule_delay=self.schedule_delay.summary(),
            submit=self.submit.summary(),
            completion=self.completion.summary(),
            detection_lag_bound=self.detection_lag_bound.summary(),
            poll=self.poll.summary(),
        )
