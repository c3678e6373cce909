"""How a session ends: complete, drained or stopped, and which reason counts."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from runner.errors import Interrupted, LimitReached, RunnerError, StoppedEarly, StorageError
from runner.measure.in_flight import InFlight
from runner.session.shutdown import Shutdown
from tests import virtual_time

DRAIN_S = 30.0


class Ending:
    """A shutdown, and all that it called. Needs a running loop."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.said: list[str] = []
        self.is_complete = self.is_idle = False
        self.stopped_by: list[RunnerError] = []
        self.shutdown = Shutdown(
            InFlight(total=2000, outstanding=1234),
            is_complete=lambda: self.is_complete,
            is_idle=lambda: self.is_idle,
            drain_s=DRAIN_S,
            say=self.said.append,
            on_draining=self._listener("draining"),
            on_stopping=self.stopped_by.append,
            on_forced=self._listener("forced"),
        )

    async def over_at(self) -> float:
        """Wait until the session is over, and return the time."""
        await self.shutdown.over.wait()
        return asyncio.get_running_loop().time()

    def _listener(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


def test_a_session_is_over_once_every_row_has_its_result() -> None:
    async def main() -> None:
        ending = Ending()
        shutdown = ending.shutdown
        shutdown.check()
        assert (shutdown.over.is_set(), shutdown.has_begun, repr(shutdown)) == (
            False,
            False,
            "<Shutdown open>",
        )
        ending.is_idle = True  # between two rows, say
        shutdown.check()
        assert not shutdown.over.is_set()
        ending.is_complete = True
        shutdown.check()
        assert (shutdown.over.is_set(), shutdown.has_begun, repr(shutdown)) == (True, True, "<Shutdown over>")
        assert (shutdown.ended_by, ending.calls, ending.said) == (None, [], [])

    virtual_time.run(main())


def test_the_first_signal_drains_until_nothing_is_outstanding() -> None:
    async def main() -> None:
        ending = Ending()
        shutdown = ending.shutdown
        shutdown.signal(signal.SIGINT)
        assert ending.calls == ["draining"]
        assert ending.said == [
            "SIGINT: nothing more is sent; waiting at most 30 s for 1,234 open jobs (Ctrl-C: stop at once)"
        ]
        assert (shutdown.has_begun, repr(shutdown)) == (True, "<Shutdown draining>")
        await asyncio.sleep(10.0)
        shutdown.check()
        assert not shutdown.over.is_set()
        ending.is_idle = True
        shutdown.check()
        assert await ending.over_at() == 10.0
        assert isinstance(shutdown.ended_by, Interrupted)
        assert not shutdown.forced.is_set()

    virtual_time.run(main())


def test_a_drain_lasts_no_longer_than_it_may() -> None:
    async def main() -> None:
        ending = Ending()
        ending.shutdown.signal(signal.SIGTERM)
        assert await ending.over_at() == DRAIN_S
        assert not ending.shutdown.forced.is_set()

    virtual_time.run(main())


def test_a_drain_in_which_the_last_row_ends_is_no_early_end() -> None:
    async def main() -> None:
        ending = Ending()
        ending.shutdown.signal(signal.SIGINT)
        ending.is_complete = True
        ending.shutdown.check()
        assert ending.shutdown.ended_by is None

    virtual_time.run(main())


def test_the_second_signal_ends_everything_at_once_with_the_exit_code_of_the_first() -> None:
    async def main() -> None:
        ending = Ending()
        shutdown = ending.shutdown
        shutdown.signal(signal.SIGTERM)
        shutdown.signal(signal.SIGINT)
        assert ending.calls == ["draining", "forced"]
        assert shutdown.over.is_set()
        assert shutdown.forced.is_set()
        assert shutdown.ended_by
        assert shutdown.ended_by.exit_code == 143

    virtual_time.run(main())


def test_a_signal_after_an_error_ends_the_wait_for_open_exchanges() -> None:
    async def main() -> None:
        ending = Ending()
        error = StoppedEarly("no service")
        ending.shutdown.stop(error)
        assert not ending.shutdown.forced.is_set()
        ending.shutdown.signal(signal.SIGINT)
        assert ending.shutdown.forced.is_set()
        assert ending.calls == ["forced"]
        assert ending.shutdown.ended_by is error

    virtual_time.run(main())


def test_only_the_first_reason_to_drain_counts() -> None:
    async def main() -> None:
        ending = Ending()
        first, second = LimitReached("the first"), LimitReached("the second")
        ending.shutdown.drain(first)
        ending.shutdown.drain(second, "limits.max_failures")
        assert ending.calls == ["draining"]
        assert ending.said == []
        assert ending.shutdown.ended_by is first

    virtual_time.run(main())


def test_only_the_first_error_is_reported_and_it_counts_more_than_a_drain() -> None:
    async def main() -> None:
        ending = Ending()
        first, second = StorageError("the first"), StorageError("the second")
        ending.shutdown.signal(signal.SIGINT)
        ending.shutdown.stop(first)
        ending.shutdown.stop(second)
        assert ending.stopped_by == [first]
        assert ending.shutdown.over.is_set()
        assert ending.shutdown.ended_by is first
        ending.shutdown.drain(LimitReached("too late"))
        assert ending.calls == ["draining"]

    virtual_time.run(main())


def test_a_time_limit_drains_when_it_is_reached() -> None:
    async def main() -> None:
        ending = Ending()
        ending.shutdown.drain_after(None)
        ending.shutdown.drain_after(90.0)
        await asyncio.sleep(89.0)
        assert not ending.shutdown.has_begun
        assert await ending.over_at() == 90.0 + DRAIN_S
        assert ending.said[0].startswith("limits.max_s: nothing more is sent; ")
        assert str(ending.shutdown.ended_by) == "limits.max_s 90: the time limit is reached"

    virtual_time.run(main())


def test_an_error_of_a_run_is_passed_on_as_it_is() -> None:
    async def main() -> None:
        ending = Ending()
        error = StoppedEarly("no service")
        ending.shutdown.fail(error)
        assert ending.shutdown.ended_by is error
        assert ending.said == []

    virtual_time.run(main())


def test_a_defect_of_this_program_is_reported_with_its_traceback_and_stops_in_order() -> None:
    async def main() -> None:
        ending = Ending()
        try:
            {"a": 1}["nobody thought of this"]
        except KeyError as error:
            ending.shutdown.fail(error)
        assert "Traceback" in ending.said[0]
        assert "test_shutdown.py" in ending.said[0]
        assert str(ending.shutdown.ended_by) == (
            "a defect of this program: KeyError('nobody thought of this');"
            " please report it with the lines above"
        )
        assert not ending.shutdown.forced.is_set()

    virtual_time.run(main())


def test_it_can_be_forced_without_a_grace_period() -> None:
    async def main() -> None:
        ending = Ending()
        error = StoppedEarly("the coordinator is gone")
        ending.shutdown.force(error)
        assert ending.stopped_by == [error]
        assert ending.calls == ["forced"]
        assert ending.shutdown.forced.is_set()
        assert repr(ending.shutdown) == "<Shutdown over>"

    virtual_time.run(main())


def test_it_can_end_without_a_reason_when_its_time_is_over() -> None:
    async def main() -> None:
        ending = Ending()
        ending.shutdown.end()
        assert ending.shutdown.over.is_set()
        assert ending.shutdown.ended_by is None

    virtual_time.run(main())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_exit_code_tells_the_signal(signum: int) -> None:
    async def main() -> None:
        ending = Ending()
        ending.shutdown.signal(signum)
        assert ending.shutdown.ended_by
        assert ending.shutdown.ended_by.exit_code == 128 + signum

    virtual_time.run(main())
