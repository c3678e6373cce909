"""The wall clock jumps, also in the middle of a run: neither waits nor times are disturbed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.session.clock import Clock
from tests.processes import Shell, Simulator

JUMPING_CLOCK = """
import time
_real, _loaded = time.time, time.monotonic()
def _jumping():
    return _real() + ({jump_s} if time.monotonic() - _loaded > {after_s} else 0.0)
time.time = _jumping
"""


@pytest.mark.parametrize("jump_s", [-7200, +7200, +(10**6)])
def test_a_run_whose_wall_clock_jumps_waits_and_times_as_ever(
    simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path, jump_s: int
) -> None:
    # Retry-After as a date in every second refusal: the one wait that is told in terms of a wall clock.
    simulator = simulate(
        latency={"type": "constant", "mean_s": 1.5}, faults={"post": {"429": 0.1}, "get": {"503": 0.1}}
    )
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(JUMPING_CLOCK.format(jump_s=jump_s, after_s=1.5))
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 40}, submit={"max_in_flight": 20}
    )
    env = shell.env["PYTHONPATH"]
    shell.environ["PYTHONPATH"] = f"{site}:{env}"
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(40), 1)
    for line in shell.results():
        timing = line["timing"]
        assert timing["due"] <= timing["sent"] <= timing["accepted"] <= timing["done"]
        assert timing["done"] - timing["accepted"] < 60
    assert shell.summary()["latency_s"]["completion"]["max"] < 60
    assert 0 < shell.summary()["run"]["wall_s"] < 60


@pytest.mark.parametrize("jump_s", [-7200, +7200])
def test_a_clock_that_was_set_between_two_sessions_stretches_no_wait(
    simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path, jump_s: int
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 1})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 30})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(30))
    process.kill()
    process.communicate()
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(JUMPING_CLOCK.format(jump_s=jump_s, after_s=-1))
    shell.environ["PYTHONPATH"] = f"{site}:{shell.env['PYTHONPATH']}"
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert {line["status"] for line in shell.results()} == {"completed"}
    assert simulator.stats()["executed"] == 30


def test_unix_time_and_monotonic_time_are_told_into_each_other() -> None:
    clock = Clock()
    now = clock.now()
    assert clock.monotonic(clock.unix(now)) == pytest.approx(now)
