"""What surrounds a run goes away or is odd: its readers, its streams, its directory, its terminal."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.processes import Shell, Simulate, constant


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_a_signal_while_the_embedded_simulator_starts_is_not_lost(shell: Shell, transport: str) -> None:
    config = shell.config(
        target={"base_url": "simulator", "transport": transport},
        source={"count": 2000},
        submit={"max_in_flight": 5},
        simulator={"latency": constant(0.2)},
    )
    manifest = shell.cwd / "runs/t/manifest.json"
    assert shell.run_until(manifest.exists, "run", config, signum=signal.SIGTERM).returncode == 143


def test_a_reader_of_progress_that_goes_away_does_not_stop_the_run(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=constant(1.0))
    shell.customise("import runner.measure.outputs.progress as it\nit.PLAIN_LINE_S = 0.2")
    process = shell.start("run", shell.config(target={"base_url": simulator.base_url}, source={"count": 20}))
    assert process.stderr
    process.stderr.close()
    assert process.wait(60) == 0
    assert process.stdout
    process.stdout.close()
    assert shell.summary()["requests"]["completed"] == 20


def test_a_directory_that_vanishes_under_a_run_ends_it_with_3_and_not_with_2(
    simulate: Simulate, shell: Shell
) -> None:
    simulator = simulate(latency=constant(1))
    process = shell.start("run", shell.config(target={"base_url": simulator.base_url}, source={"count": 40}))
    shell.wait_for(process, lambda: simulator.stats()["accepted"] == 40)
    shutil.rmtree(shell.cwd / "runs/t")
    done = shell.end(process)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_run_that_is_started_without_standard_streams_runs_all_the_same(
    simulate: Simulate, shell: Shell, closed: str
) -> None:
    config = shell.config(target={"base_url": simulate().base_url}, source={"count": 5})
    command = " ".join(map(shlex.quote, shell.command("run", config)))
    done = subprocess.run(f"{command} {closed}", shell=True, cwd=shell.cwd, env=shell.env)  # noqa: S602 - a shell is what closes streams
    assert done.returncode == 0
    assert shell.summary()["requests"]["completed"] == 5


def test_a_report_that_cannot_be_written_does_not_change_the_exit_code(
    simulate: Simulate, shell: Shell
) -> None:
    config = shell.config(target={"base_url": simulate().base_url}, source={"count": 5})
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            shell.command("run", config), cwd=shell.cwd, env=shell.env, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_an_old_terminal_encoding_does_not_break_the_report(simulate: Simulate, shell: Shell) -> None:
    shell.environ["PYTHONIOENCODING"] = "ascii"
    config = shell.config(target={"base_url": simulate().base_url}, source={"count": 5})
    assert shell("run", config).returncode == 0


def test_ctrl_c_while_the_input_is_read_ends_with_130_and_nothing_sent(shell: Shell) -> None:
    rows = shell.cwd / "rows.jsonl"
    rows.write_text('{"input": "x"}\n' * 400_000)
    config = shell.config(
        target={"base_url": "http://127.0.0.1:9"},
        source={"type": "jsonl", "path": "rows.jsonl", "count": None},
    )
    process = shell.start("run", config)
    descriptors = Path(f"/proc/{process.pid}/fd")
    shell.wait_for(process, lambda: any(target_of(it).endswith("rows.jsonl") for it in descriptors.iterdir()))
    process.send_signal(signal.SIGINT)
    done = shell.end(process)
    assert done.returncode == 130, done.stderr
    assert not (shell.cwd / "runs").exists()


def target_of(descriptor: Path) -> str:
    """Return the name of an open file, or "" if it has been closed."""
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""
