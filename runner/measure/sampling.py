"""Makes samples of a run and hands them to its outputs, to each output at its own interval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import msgspec

from runner.errors import StorageError
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.measure.outputs.output import Output
from runner.measure.sample import CompletionTimes, Retries, Sample
from runner.measure.session_info import SessionInfo
from runner.measure.vitals import Vitals

FIGURES_S: Final = 1.0
"""Interval at which expensive figures are measured: quantiles, CPU, memory."""
TIMER_S: Final = 0.001
"""Resolution of uvloop's timers, which may wake a sleeper this much before its time."""


class _Figures(msgspec.Struct, frozen=True):
    """Part of a sample that is measured only once per `FIGURES_S`."""

    completion_s: CompletionTimes
    cpu_share: float
    cpu_s: float
    loop_lag_p99_s: float | None
    rss_bytes: int


class _Totals(msgspec.Struct, frozen=True):
    """Counts from which the rates of the next sample are computed."""

    wall_s: float
    accepted: int
    completed: int
    polls: int


class _Feed:
    """An output with the time of its next sample and the counts of its last one."""

    def __init__(self, output: Output, due_mono: float, before: _Totals) -> None:
        self.output = output
        self.due_mono = due_mono
        self.before = before


class Sampler:
    """Makes samples of a run, with rates over the interval of the output that gets the sample.

    The fields of `meter` and `in_flight` are read at each sample, so others may replace them at any time.
    """

    def __init__(
        self,
        meter: Meter,
        in_flight: InFlight,
        session: SessionInfo,
        vitals: Vitals,
        outputs: Sequence[Output],
        clock_mono: Callable[[], float],
        unix: Callable[[], float],
    ) -> None:
        self._meter = meter
        self._in_flight = in_flight
        self._session = session
        self._vitals = vitals
        self._outputs = outputs
        self._clock_mono = clock_mono
        self._unix = unix
        self._feeds: list[_Feed] = []
        self._started_mono = self._figures_due_mono = clock_mono()
        self._figures_wall_s = 0.0
        self._figures = self._measure(0.0)

    def start(self) -> None:
        """Start every output, and the time of the session.

        Raises `StorageError`; the outputs that were started before are then stopped.
        """
        now_mono = self._started_mono = self._clock_mono()
        self._figures_due_mono = now_mono + FIGURES_S
        self._session.wall_s = 0.0
        with ExitStack() as started:
            for output in self._outputs:
                output.start()
                started.callback(output.stop)
            started.pop_all()
        self._feeds = [_Feed(it, now_mono + it.every_s, self._totals()) for it in self._outputs]

    async def run(self) -> None:
        """Hand out samples until cancelled. Raises `StorageError`."""
        while True:
            wait_s = self.tick()
            await asyncio.sleep(wait_s + TIMER_S)

    def tick(self) -> float:
        """Hand a sample to each output for which one is due; return the seconds until the next is due.

        Samples that are missed, because the machine slept, are not made up for. Raises `StorageError`.
        """
        now_mono = self._clock_mono()
        self._session.wall_s = now_mono - self._started_mono
        if self._figures_due_mono <= now_mono:
            self._figures_due_mono = _next_due(self._figures_due_mono, FIGURES_S, now_mono)
            self._refresh_figures()
        for feed in self._feeds:
            if feed.due_mono <= now_mono:
                feed.due_mono = _next_due(feed.due_mono, feed.output.every_s, now_mono)
                self._add_sample(feed)
        next_mono = min([self._figures_due_mono, *(feed.due_mono for feed in self._feeds)])
        return max(next_mono - self._clock_mono(), 0.0)

    def close(self) -> None:
        """Hand the last sample to every output, and stop all. Raises `StorageError` after that."""
        self._session.wall_s = self._clock_mono() - self._started_mono
        self._refresh_figures()
        errors = []
        with ExitStack() as stack:
            for feed in reversed(self._feeds):
                stack.callback(feed.output.stop)
            for feed in self._feeds:
                try:
                    self._add_sample(feed)
                except StorageError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def _refresh_figures(self) -> None:
        elapsed_s = self._session.wall_s - self._figures_wall_s
        self._figures_wall_s = self._session.wall_s
        self._figures = self._measure(self._vitals.second_passed(elapsed_s))

    def _measure(self, cpu_share: float) -> _Figures:
        completion, vitals = self._meter.latencies.completion, self._vitals
        return _Figures(
            completion_s=CompletionTimes(completion.quantile(50.0), completion.quantile(95.0)),
            cpu_share=round(cpu_share, 3),
            cpu_s=round(self._session.earlier_cpu_s + vitals.cpu_s, 3),
            loop_lag_p99_s=vitals.loop_lag.quantile(99.0),
            rss_bytes=vitals.rss_bytes,
        )

    def _totals(self) -> _Totals:
        counts = self._meter.counts
        wall_s = self._session.wall_s
        return _Totals(wall_s, counts.accepted, counts.statuses["completed"], counts.polls)

    def _add_sample(self, feed: _Feed) -> None:
        before, feed.before = feed.before, self._totals()
        feed.output.add(self._sample(before, feed.before))

    def _sample(self, before: _Totals, now: _Totals) -> Sample:
        meter, in_flight, figures = self._meter, self._in_flight, self._figures
        counts = meter.counts
        elapsed_s = now.wall_s - before.wall_s

        def rate(count: int) -> float:
            return round(count / elapsed_s, 2) if elapsed_s > 0 else 0.0

        return Sample(
            at=round(self._unix(), 3),
            wall_s=round(self._session.total_wall_s, 3),
            began=meter.began,
            requests={status: count for status, count in counts.statuses.items() if count},
            done=meter.done,
            in_flight=in_flight.outstanding,
            posting=in_flight.sending,
            polls=counts.polls,
            accepting_s=round(meter.total_accepting_s, 3),
            accepted_per_s=rate(now.accepted - before.accepted),
            completed_per_s=rate(now.completed - before.completed),
            polls_per_s=rate(now.polls - before.polls),
            wire=dict(counts.wire),
            retries=Retries(submit=dict(counts.submit_retries), poll=dict(counts.poll_retries)),
            completion_s=figures.completion_s,
            cpu_share=figures.cpu_share,
            cpu_s=figures.cpu_s,
            loop_lag_p99_s=figures.loop_lag_p99_s,
            rss_bytes=figures.rss_bytes,
        )


def _next_due(due_mono: float, every_s: float, now_mono: float) -> float:
    """Return the first time after `now_mono` in the rhythm of `due_mono`."""
    return due_mono + every_s * (1 + (now_mono - due_mono) // every_s)
