"""A service that goes away under a run: it stops, uses up no row, and the same command continues it."""

from __future__ import annotations

import pytest

from tests.processes import Shell, Simulate, constant


@pytest.mark.parametrize("how", ["gone", "500", "hang"])
def test_an_outage_ends_the_run_and_uses_up_no_row(simulate: Simulate, shell: Shell, how: str) -> None:
    state, latency = shell.cwd / "state.jsonl", constant(0.1)
    simulator = simulate(state=state, latency=latency)
    config = shell.config(
        target={"base_url": simulator.base_url, "timeout_s": 0.5},
        source={"count": 200},
        submit={"max_in_flight": 20},
        limits={"max_outage_s": 1.5},
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(30))
    simulator.kill()
    if how != "gone":
        fault = {how: 1.0}
        simulator = simulate(
            state=state, port=simulator.port, latency=latency, faults={"post": fault, "get": fault}
        )
    done = shell.end(process)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("nothing but failures for") == 1
    assert "limits.max_outage_s" in done.stderr
    assert set(shell.statuses()) == {"completed"}
    if how != "gone":
        simulator.kill()
    simulator = simulate(state=state, port=simulator.port, latency=latency)
    done = shell("run", config, "--set", "limits.max_outage_s=15")
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(200)
    assert simulator.stats()["executed"] == 200


def test_a_key_that_is_refused_half_way_keeps_what_is_done_and_the_right_key_continues(
    simulate: Simulate, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = shell.cwd / "state.jsonl"
    monkeypatch.setenv("SIMULATOR_KEY", shell.env["SAIL_API_KEY"])
    first = simulate(api_key_env="SIMULATOR_KEY", state=state, latency=constant(0.3))
    config = shell.config(
        target={"base_url": first.base_url}, source={"count": 200}, submit={"max_in_flight": 30}
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(1))
    first.stop()
    monkeypatch.setenv("SIMULATOR_KEY", "rotated-in-between")
    second = simulate(api_key_env="SIMULATOR_KEY", state=state, port=first.port)
    done = shell.end(process)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("the service refuses the API key") == 1
    second.stop()
    monkeypatch.setenv("SIMULATOR_KEY", shell.env["SAIL_API_KEY"])
    third = simulate(api_key_env="SIMULATOR_KEY", state=state, port=first.port)
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(200)
    assert third.stats()["accepted"] == 200


def test_lost_acknowledgements_are_uncertain_without_a_key_and_resent_only_if_the_user_says_so(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(faults={"post": {"lost": 0.2}})
    target = {"base_url": simulator.base_url, "idempotency_header": None}
    assert shell("run", shell.config(target=target, source={"count": 100})).returncode == 1
    lost = simulator.stats()["faults"]["post"]["lost"]
    assert shell.statuses()["uncertain"] == lost > 0
    assert simulator.stats()["posts"] == simulator.stats()["executed"] == 100

    config = shell.config(name="u", target=target, source={"count": 100}, submit={"on_uncertain": "resend"})
    assert shell("run", config).returncode == 0
    assert shell.statuses("u") == {"completed": 100}
    stats = simulator.stats()
    assert stats["executed"] == 200 + stats["faults"]["post"]["lost"] - lost > 200, "the price of it"
