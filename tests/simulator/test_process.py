"""The simulator as a process: its output, signals, parent, state file, and the embedded one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from runner.config.simulation import Simulator
from runner.errors import ConfigError
from runner.simulator import Embedded, serving
from tests.simulator.live import SERVE, base_url_of, client_of, full_disk, server_process, simulator
from tests.simulator.support import body_of, remembering, settings, taking

SLOW = taking(3600.0)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_exit_code_0_and_no_further_output(signum: int) -> None:
    with server_process() as process:
        base_url_of(process)
        process.send_signal(signum)
        rest, errors = process.communicate(timeout=20)
        assert (process.returncode, rest, errors) == (0, "", "")


def test_it_ends_with_its_parent_even_if_that_is_killed() -> None:
    parent_code = (
        "import sys, subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], stdin=subprocess.PIPE)\n"
        "child.wait()\n"
    )
    arguments = [settings().model_dump_json(), "0", "", "yes"]
    command = [sys.executable, "-c", parent_code, SERVE, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        base_url_of(parent)
        assert parent.stdout is not None
        parent.send_signal(signal.SIGKILL)
        # The child holds the other end of this pipe: it ends when the child does.
        assert parent.stdout.read() == ""


def test_a_port_in_use_is_reported() -> None:
    with server_process() as first:
        port = int(base_url_of(first).removesuffix("/v1").rsplit(":", 1)[1])
        with server_process(port=port) as second:
            _, errors = second.communicate(timeout=20)
            assert second.returncode == 1
            assert "the port is in use (choose another port, or 0 for any free one)" in errors


def test_a_key_that_is_not_in_the_environment_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)

    async def scenario() -> None:
        async with serving(settings(api_key_env="NO_SUCH_KEY")):
            pass

    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        asyncio.run(scenario())


def test_jobs_keys_cancellations_and_deletions_survive_a_kill(
    tmp_path: Path,
) -> None:
    state = tmp_path / "deep" / "state.jsonl"

    async def before(base_url: str) -> dict[str, str]:
        async with client_of(base_url) as client:
            ids = {}
            for name in ("running", "cancelled", "deleted"):
                status, created = await client.post(body_of(name), key=name)
                assert status == 202
                ids[name] = created["id"]
            await client.call("POST", f"/responses/{ids['cancelled']}/cancel")
            await client.call("DELETE", f"/responses/{ids['deleted']}")
            return ids

    async def after(base_url: str, ids: dict[str, str]) -> None:
        async with client_of(base_url) as client:
            assert (await client.get(ids["running"]))[1]["status"] == "running"
            assert (await client.get(ids["cancelled"]))[1]["status"] == "cancelled"
            assert (await client.get(ids["deleted"]))[0] == 404
            _, repeated = await client.post(body_of("running"), key="running")
            assert repeated["id"] == ids["running"]
            status, refused = await client.post(body_of("other"), key="running")
            assert (status, refused["error"]["type"]) == (400, "idempotency_error")
            _, second = await client.post(body_of("running"), key="new")
            assert second["id"] not in ids.values()
            stats = await client.stats()
            assert (stats["accepted"], stats["restored"], stats["replayed"]) == (4, 3, 1)

    with server_process(SLOW, state) as process:
        ids = asyncio.run(before(base_url_of(process)))
        process.kill()
    with state.open("ab") as torn:
        torn.write(b'{"event":"accepted","id":"resp_to')
    with server_process(SLOW, state) as process:
        asyncio.run(after(base_url_of(process), ids))
    assert all(json.loads(line) for line in state.read_bytes().splitlines())


def test_a_full_disk_is_a_500_and_leaves_no_partial_line(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"

    async def scenario(base_url: str) -> None:
        async with client_of(base_url) as client:
            assert (await client.post(body_of("first"), key="first"))[0] == 202
            with full_disk(process, state, spare=20) as size:
                status, refused = await client.post(body_of("second"), key="second")
                assert (status, refused["error"]["code"]) == (500, "storage")
                assert state.stat().st_size == size
            assert (await client.post(body_of("second"), key="second"))[0] == 202
            assert (await client.stats())["accepted"] == 2

    with server_process(SLOW, state) as process:
        asyncio.run(scenario(base_url_of(process)))
    assert len([json.loads(line) for line in state.read_bytes().splitlines()]) == 2


def test_jobs_go_on_while_the_simulator_is_down(tmp_path: Path) -> None:
    state, configured = tmp_path / "state.jsonl", taking(10.0, capacity=1)
    with remembering(state, configured) as virtual:
        ids = [virtual.create(f"p{i}") for i in range(3)]
        now = virtual.clock.now
    with remembering(state, configured) as virtual:
        virtual.clock.now = now + 31
        restored = list(virtual.service.jobs())
        assert [job.terms.id for job in restored] == ids
        assert [job.status for job in restored] == ["completed"] * 3
        assert [job.finish for job in restored] == [now + 10, now + 20, now + 30]


def test_a_delivery_survives_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"

    async def scenario() -> None:
        async with simulator(state=state) as client:
            _, created = await client.post()
            await client.until_done(created["id"])
        async with simulator(state=state) as client:
            await client.get(created["id"])
            stats = await client.stats()
            assert (stats["delivered"], stats["open"], stats["polls_after_delivery"]) == (1, 0, 1)

    asyncio.run(scenario())


def test_a_file_that_is_not_a_state_file_is_refused_by_line_and_left_unchanged(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("dear diary\n")

    async def scenario() -> None:
        async with simulator(state=other):
            pass

    with pytest.raises(ConfigError, match=r"notes.txt:1: not a line of a simulator state file"):
        asyncio.run(scenario())
    assert other.read_text() == "dear diary\n"


def test_the_embedded_simulator_runs_within_its_block_and_is_gone_afterwards(tmp_path: Path) -> None:
    async def scenario() -> None:
        state = tmp_path / "state.jsonl"
        async with Embedded(settings(seed=7), state) as embedded, client_of(embedded.base_url) as client:
            pid = embedded.pid
            assert pid is not None
            assert os.getsid(pid) == pid  # its own session: Ctrl-C at this terminal does not reach it
            status, created = await client.post(key="k")
            assert status == 202
            base_url = embedded.base_url
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        async with client_of(base_url) as client:
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.stats()
        async with Embedded(settings(seed=7), state) as embedded, client_of(embedded.base_url) as client:
            assert (await client.post(key="k"))[1]["id"] == created["id"]

    asyncio.run(scenario())


def test_an_embedded_simulator_that_cannot_start_reports_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)

    async def scenario() -> None:
        async with Embedded(Simulator(api_key_env="NO_SUCH_KEY")):
            pass

    with pytest.raises(ConfigError, match=r"did not start: .*NO_SUCH_KEY is not set"):
        asyncio.run(scenario())
