"""The system clock is set in the middle of a run: neither waits nor times are disturbed."""

from __future__ import annotations

from typing import Final

import pytest

from tests.processes import Shell, Simulate, constant

JUMPING_CLOCK: Final = """
import time
_real, _loaded = time.time, time.monotonic()
def _jumping():
    return _real() + ({jump_s} if time.monotonic() - _loaded > 1.5 else 0.0)
time.time = _jumping
"""


@pytest.mark.parametrize("jump_s", [-7200, 10**6])
def test_a_run_whose_system_clock_is_set_waits_and_times_as_before(
    simulate: Simulate, shell: Shell, jump_s: int
) -> None:
    # A `Retry-After` in every second refusal is a date: the one wait that is given as a time of day.
    simulator = simulate(latency=constant(1.5), faults={"post": {"429": 0.1}, "get": {"503": 0.1}})
    shell.customise(JUMPING_CLOCK.format(jump_s=jump_s))
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 40}, submit={"max_in_flight": 20}
    )
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(40)
    for line in shell.results():
        timing = line["timing"]
        assert timing["due"] <= timing["sent"] <= timing["accepted"] <= timing["done"]
        assert timing["done"] - timing["accepted"] < 60
    assert 0 < shell.summary()["run"]["wall_s"] < 60
