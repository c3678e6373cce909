"""A real SIGKILL while rows are announced ahead of their POSTs: none is lost and none is sent twice."""

from __future__ import annotations

from tests.processes import Shell, Simulate


def test_kills_with_rows_made_ready_lose_none_and_send_none_twice(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(exchange_s=0.1)
    config = shell.config(
        target={"base_url": simulator.base_url, "timeout_s": 60},
        source={"count": 300},
        submit={"concurrency": 1},
    )
    for accepted in (3, 6):
        shell.run_until(shell.has_accepted(accepted), "run", config)
    assert shell("run", config, "--set", "submit.concurrency=20").returncode == 0
    stats = simulator.stats()
    assert stats["executed"] == stats["accepted"] == 300
    shell.assert_each_row_once(300)
