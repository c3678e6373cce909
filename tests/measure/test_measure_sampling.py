"""Each output gets a sample as often as it wants, with rates since its own last one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from runner.errors import Problem, StorageError
from runner.measure.counts import Counts
from runner.measure.in_flight import InFlight
from runner.measure.meter import Meter
from runner.measure.outputs.output import Output
from runner.measure.sample import Sample
from runner.measure.sampling import Sampler
from runner.measure.session_info import SessionInfo
from runner.measure.vitals import Vitals


class Recorder:
    """An output that keeps everything it is given, in a diary that it may share with others."""

    def __init__(
        self, every_s: float, name: str = "it", diary: list[str] | None = None, fails: set[str] | None = None
    ) -> None:
        self.every_s = every_s
        self.samples: list[Sample] = []
        self._name = name
        self._diary = [] if diary is None else diary
        self._fails = fails or set()

    def start(self) -> None:
        self._note("start")

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        self._note("add")

    def stop(self) -> None:
        self._note("stop")

    def _note(self, what: str) -> None:
        self._diary.append(f"{self._name} {what}")
        if what in self._fails:
            raise StorageError(Problem(f"{self._name} cannot {what}", "here"))


class Bench:
    """A sampler over a clock that is set by hand, from 500 s."""

    def __init__(self, *outputs: Output, clock_mono: Callable[[], float] | None = None) -> None:
        self.now_mono = 500.0
        self.meter, self.in_flight, self.vitals = Meter(), InFlight(total=100), Vitals()
        self.session = SessionInfo("test", 1000.0, earlier_wall_s=50.0)
        self.sampler = Sampler(
            self.meter,
            self.in_flight,
            self.session,
            self.vitals,
            outputs,
            clock_mono or (lambda: self.now_mono),
            lambda: self.now_mono + 1000.0,
        )

    def wait(self, seconds: float) -> float:
        self.now_mono += seconds
        return self.sampler.tick()


def test_rates_are_since_the_last_sample_of_the_same_output() -> None:
    fast, slow = Recorder(1.0), Recorder(2.0)
    bench = Bench(fast, slow)
    bench.meter.counts.accepted = 1000  # by earlier sessions
    bench.sampler.start()
    bench.meter.counts.accepted, bench.meter.counts.polls = 1010, 4
    bench.wait(1.0)
    bench.meter.counts.accepted, bench.meter.counts.polls = 1016, 5
    bench.wait(1.0)

    assert [(it.accepted_per_s, it.polls_per_s) for it in fast.samples] == [(10.0, 4.0), (6.0, 1.0)]
    assert [(it.accepted_per_s, it.polls_per_s) for it in slow.samples] == [(8.0, 2.5)]


def test_a_sample_says_how_things_stand_now() -> None:
    output = Recorder(1.0)
    bench = Bench(output)
    bench.sampler.start()
    bench.meter.begin(1400.0)
    counts = bench.meter.counts = Counts(polls=3)  # as a coordinator does
    counts.statuses.update(completed=5, failed=2)
    counts.wire["requests"] += 21
    counts.submit_retries["429"] += 1
    counts.poll_retries["timeout"] += 2
    bench.meter.latencies.completion.record(4.0)
    bench.in_flight.outstanding, bench.in_flight.sending = 10, 4
    bench.wait(1.0)

    (sample,) = output.samples
    assert (sample.at, sample.wall_s, sample.began) == (1501.0, 51.0, 1400.0)
    assert (sample.requests, sample.done) == ({"completed": 5, "failed": 2}, 7)
    assert (sample.in_flight, sample.posting, sample.polls) == (10, 4, 3)
    assert (sample.completed, sample.not_completed, sample.submitted, sample.retry_count) == (5, 2, 17, 3)
    assert sample.wire == {"requests": 21, "sent_bytes": 0, "received_bytes": 0}
    assert sample.completion_s.p50 == pytest.approx(4.0, rel=1e-3)
    assert bench.session.wall_s == 1.0


def test_figures_that_cost_much_are_made_once_a_second_however_often_somebody_wants_a_sample() -> None:
    often, seldom = Recorder(0.25), Recorder(1.0)
    bench = Bench(often, seldom)
    measured = _count_calls(bench.vitals)
    bench.sampler.start()
    for _ in range(8):
        bench.wait(0.25)

    assert (len(often.samples), len(seldom.samples), measured()) == (8, 2, 2)


def _count_calls(vitals: Vitals) -> Callable[[], int]:
    """Return how often the CPU of a second was asked for, from now on."""
    return lambda: vitals._seconds


def test_missed_samples_are_not_made_up_for_and_the_rhythm_stays() -> None:
    output = Recorder(1.0)
    bench = Bench(output)
    bench.sampler.start()

    assert bench.wait(0.0) == 1.0
    assert bench.wait(60.25) == 0.75
    assert bench.wait(0.5) == 0.25
    assert len(output.samples) == 1


def test_an_output_that_never_wants_a_sample_gets_the_last_one() -> None:
    output = Recorder(math.inf)
    bench = Bench(output)
    bench.sampler.start()
    bench.wait(1e6)
    assert output.samples == []
    bench.sampler.close()

    assert len(output.samples) == 1


def test_two_samples_at_one_moment_divide_by_nothing() -> None:
    output = Recorder(1.0)
    bench = Bench(output)
    bench.sampler.start()
    bench.wait(1.0)
    bench.sampler.close()

    assert output.samples[1].polls_per_s == output.samples[1].cpu_share == 0.0


def test_a_sampler_without_outputs_keeps_the_time_and_watches_the_client() -> None:
    bench = Bench()
    measured = _count_calls(bench.vitals)
    bench.sampler.start()
    assert bench.wait(2.5) == 0.5
    bench.sampler.close()

    assert (bench.session.wall_s, measured()) == (2.5, 2)


def test_an_error_of_one_output_stops_none_of_the_last_samples() -> None:
    diary: list[str] = []
    bench = Bench(Recorder(1.0, "a", diary, {"add"}), Recorder(1.0, "b", diary, {"add"}))
    bench.sampler.start()
    with pytest.raises(StorageError, match="a cannot add"):
        bench.sampler.close()

    assert diary == ["a start", "b start", "a add", "b add", "a stop", "b stop"]


def test_an_error_in_stopping_leaves_no_other_output_running() -> None:
    diary: list[str] = []
    bench = Bench(Recorder(1.0, "a", diary, {"stop"}), Recorder(1.0, "b", diary))
    bench.sampler.start()
    with pytest.raises(StorageError, match="a cannot stop"):
        bench.sampler.close()

    assert diary[-2:] == ["a stop", "b stop"]


def test_outputs_are_stopped_where_one_cannot_be_started() -> None:
    diary: list[str] = []
    bench = Bench(Recorder(1.0, "a", diary), Recorder(1.0, "b", diary, {"start"}), Recorder(1.0, "c", diary))
    with pytest.raises(StorageError, match="b cannot start"):
        bench.sampler.start()
    bench.sampler.close()

    assert diary == ["a start", "b start", "a stop"]


def test_samples_are_handed_out_until_cancelled_or_until_one_cannot_be_written() -> None:
    output = Recorder(0.002)

    class Full(Recorder):
        def add(self, sample: Sample) -> None:
            super().add(sample)
            if len(output.samples) >= 3:
                raise StorageError(Problem("no room", "here"))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        bench = Bench(output, Full(0.002), clock_mono=loop.time)
        bench.sampler.start()
        await bench.sampler.run()

    with pytest.raises(StorageError, match="no room"):
        asyncio.run(run())
    assert len(output.samples) == 3
