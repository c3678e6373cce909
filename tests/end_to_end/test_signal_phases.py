"""A signal in each phase of a command: it ends soon, loses nothing, and the next run continues."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.processes import NEVER, Process, Shell, Simulate, constant

ENDS_SOON_S = 30
"""Most seconds until the end of a process, under whatever load; what it would wait for takes far longer."""
AN_HOUR_S = 3600
SIGNALS = pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def ended(shell: Shell, process: Process, code: int) -> str:
    """Return what the process says on stderr to its end, which comes soon and with this exit code."""
    done = shell.end(process, ENDS_SOON_S)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "continue with the same command" in done.stderr
    return done.stderr


def assert_it_continues(shell: Shell, config: Path, count: int) -> None:
    """Check that the same command completes every row, once."""
    done: subprocess.CompletedProcess[str] = shell("run", config)
    assert done.returncode == 0, done.stderr
    shell.assert_each_row_once(count)


def port_of(base_url: str) -> int:
    return int(base_url.removesuffix("/v1").rpartition(":")[2])


Answer = tuple[str, str]
"""Status line with headers, and body."""


@contextmanager
def served(answer: Callable[[bytes], Answer]) -> Iterator[str]:
    """Serve `answer(request)` for each request, on a connection of its own; yields the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(ENDS_SOON_S)
                head, body = answer(connection.recv(1 << 16))
                framing = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                connection.sendall(f"HTTP/1.1 {head}\r\n{framing}{body}".encode())
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # `close` alone does not wake who waits in `accept`
        thread.join()
        listener.close()


COME_BACK: Answer = (
    "429 Too Many Requests\r\nRetry-After: 3000",
    '{"error": {"message": "come back later"}}',
)


IN_THE_MIDST_OF_THE_LOOPS_START = """
import os, signal, threading
main_thread, signums = threading.main_thread, []
def asked():  # by the loop when it has begun
    if signums:
        os.kill(os.getpid(), signums.pop())
    return main_thread()
threading.main_thread = asked
import uvloop
threading.main_thread = main_thread
run = uvloop.run
def run_and_be_signalled(*arguments):
    signums.append({signum})
    return run(*arguments)
uvloop.run = run_and_be_signalled
"""


@pytest.mark.parametrize("command", ["run", "cancel", "batches"])
@pytest.mark.parametrize(
    ("is_embedded", "signum", "code"), [(False, signal.SIGINT, 130), (True, signal.SIGTERM, 143)]
)
def test_while_the_event_loop_starts(
    simulate: Simulate, shell: Shell, command: str, is_embedded: bool, signum: signal.Signals, code: int
) -> None:
    simulator = simulate(latency=NEVER)
    config = shell.config(
        target={"base_url": "simulator" if is_embedded else simulator.base_url},
        source={"count": 5},
        simulator={"latency": NEVER},
    )
    if command == "cancel":
        shell.run_until(shell.has_accepted(5), "run", config)
    shell.customise(IN_THE_MIDST_OF_THE_LOOPS_START.format(signum=int(signum)))
    done = shell(command, shell.cwd / "runs/t" if command == "cancel" else config)
    assert done.returncode == code, done.stderr
    assert "Exception ignored" not in done.stderr
    assert simulator.stats()["posts"] == (5 if command == "cancel" and not is_embedded else 0)


def test_while_a_long_retry_after_is_waited_for_before_anything_was_accepted(
    simulate: Simulate, shell: Shell
) -> None:
    with served(lambda _: COME_BACK) as address:
        config = shell.config(target={"base_url": address}, source={"count": 5})
        process = shell.start("run", config)
        shell.wait_for_line("waiting 3000 s, as the service asks: come back later", process)
        process.send_signal(signal.SIGINT)
        ended(shell, process, 130)
    assert shell.summary()["requests"]["unsent"] == 5
    simulator = simulate(port=port_of(address))
    assert_it_continues(shell, config, 5)
    assert simulator.stats()["executed"] == 5


def test_while_a_long_retry_after_holds_up_the_polls_of_open_jobs(shell: Shell) -> None:
    polls: list[Answer] = [COME_BACK]

    def answer(request: bytes) -> Answer:
        if request.startswith(b"POST"):
            return "202 Accepted", '{"id": "resp_1", "status": "queued"}'
        return polls[-1]

    with served(answer) as address:
        config = shell.config(
            target={"base_url": address},
            source={"count": 1},
            limits={"drain_s": 0.2},
            poll={"interval_s": 0.01},
        )
        process = shell.start("run", config)
        shell.wait_for_line("waiting 3000 s", process)
        process.send_signal(signal.SIGTERM)
        assert "1 jobs are still open at the service" in ended(shell, process, 143)
        polls.append(("200 OK", '{"id": "resp_1", "status": "completed", "output": []}'))
        assert_it_continues(shell, config, 1)


@pytest.mark.parametrize("signals", [1, 2])
def test_while_the_first_answer_is_waited_for(simulate: Simulate, shell: Shell, signals: int) -> None:
    silent = simulate(faults={"post": {"hang": 1.0}})
    config = shell.config(
        target={"base_url": silent.base_url, "timeout_s": AN_HOUR_S},
        source={"count": 5},
        limits={"drain_s": 0.2 if signals == 1 else AN_HOUR_S},
    )
    process = shell.start("run", config)
    shell.wait_for(process, lambda: bool(silent.stats()["posts_now"] == 1))
    process.send_signal(signal.SIGINT)
    if signals == 2:
        shell.wait_for_line("nothing more is sent", process)
        process.send_signal(signal.SIGINT)
    assert "1 requests were sent without an acknowledgement" in ended(shell, process, 130)
    silent.stop()
    simulator = simulate(port=port_of(silent.base_url))
    assert_it_continues(shell, config, 5)
    assert simulator.stats()["executed"] == 5


def test_while_nobody_has_ever_listened_at_the_address(simulate: Simulate, shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = shell.config(
        target={"base_url": f"http://127.0.0.1:{port}/v1"},
        source={"count": 5},
        submit={"retry": {"base_s": AN_HOUR_S, "cap_s": AN_HOUR_S}},
    )
    process = shell.start("run", config)
    journal = shell.cwd / "runs/t/journal.jsonl"
    shell.wait_for(process, lambda: journal.exists() and b'"cause":"connect"' in journal.read_bytes())
    process.send_signal(signal.SIGTERM)
    ended(shell, process, 143)
    simulator = simulate(port=port)
    assert_it_continues(shell, config, 5)
    assert simulator.stats()["executed"] == 5


def test_while_a_service_that_went_away_is_probed(simulate: Simulate, shell: Shell) -> None:
    state = shell.cwd / "state.jsonl"
    first = simulate(latency=constant(0.5), state=state)
    config = shell.config(
        target={"base_url": first.base_url},
        source={"count": 200},
        submit={"max_in_flight": 20},
        limits={"drain_s": 0.2},
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(6))
    first.stop()
    metrics = shell.cwd / "runs/t/metrics.jsonl"
    shell.wait_for(process, lambda: metrics.exists() and b'"connect":' in metrics.read_bytes())
    process.send_signal(signal.SIGINT)
    ended(shell, process, 130)
    assert shell.summary()["requests"]["completed"] == len(shell.results()) < 200
    second = simulate(latency=constant(0.1), state=state, port=port_of(first.base_url))
    assert_it_continues(shell, config, 200)
    assert second.stats()["accepted"] == 200


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGINT, signal.SIGTERM, 130), (signal.SIGTERM, signal.SIGINT, 143)],
)
def test_a_second_signal_of_another_kind_while_polls_hang_in_the_drain(
    simulate: Simulate, shell: Shell, first: signal.Signals, second: signal.Signals, code: int
) -> None:
    """The exit code is that of the first signal, which began the end."""
    state = shell.cwd / "state.jsonl"
    silent = simulate(faults={"get": {"hang": 1.0}}, state=state)
    config = shell.config(
        target={"base_url": silent.base_url, "timeout_s": AN_HOUR_S},
        source={"count": 10},
        limits={"drain_s": AN_HOUR_S},
    )
    process = shell.start("run", config)
    shell.wait_for(process, lambda: bool(silent.stats()["gets_now"] == 10))
    process.send_signal(first)
    shell.wait_for_line("waiting at most 3600 s for 10 open jobs", process)
    process.send_signal(second)
    assert "10 jobs are still open at the service" in ended(shell, process, code)
    silent.stop()
    simulator = simulate(state=state, port=port_of(silent.base_url))
    assert_it_continues(shell, config, 10)
    assert simulator.stats()["accepted"] == 10
    assert simulator.stats()["posts"] == 0


def test_while_a_continued_run_reads_a_long_journal(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 10})
    assert shell("run", config, "--limit", "5").returncode == 0
    run_dir = shell.cwd / "runs/t"
    with (run_dir / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"event":"refused","row":3,"cause":"429","at":1.0}\n' * 400_000)
    before = contents(run_dir)
    process = shell.start("run", config)
    shell.wait_for(process, lambda: "journal.jsonl" in open_files(process))
    process.send_signal(signal.SIGTERM)
    done = shell.end(process, ENDS_SOON_S)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert contents(run_dir) == before
    assert_it_continues(shell, config, 10)
    assert simulator.stats()["executed"] == simulator.stats()["posts"] == 10


def contents(run_dir: Path) -> dict[str, bytes]:
    """Return every file of a run but its lock, which shows who held it last."""
    return {path.name: path.read_bytes() for path in run_dir.iterdir() if path.name != ".lock"}


def open_files(process: Process) -> set[str]:
    """Return the names of the files that a process has open."""
    names = set()
    with suppress(FileNotFoundError):
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                names.add(entry.readlink().name)
    return names


def test_many_signals_at_once(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency={"type": "bimodal", "fast_s": 0.05, "slow_s": 2, "slow_share": 0.3})
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 150},
        submit={"max_in_flight": 20},
        limits={"drain_s": 0.2},
    )
    for session in range(2):
        process = shell.start("run", config)
        done = len(shell.results())
        shell.wait_for(process, shell.has_results(done + 5))
        for _ in range(5):
            process.send_signal(signal.SIGTERM)
        ended(shell, process, 143)
        summary = shell.summary()
        assert summary["run"]["status"] == "interrupted"
        assert summary["run"]["continued"] == session
        assert summary["requests"]["completed"] == len(shell.results())
    assert_it_continues(shell, config, 150)
    assert simulator.stats()["executed"] == 150


@SIGNALS
def test_signals_without_end(simulate: Simulate, shell: Shell, signum: signal.Signals, code: int) -> None:
    """From the first result until the process is gone: whatever it does, it is asked to stop once more."""
    simulator = simulate(latency=constant(0.1))
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 60}, submit={"max_in_flight": 5}
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(5))
    while process.poll() is None:
        process.send_signal(signum)
    ended(shell, process, code)
    summary = shell.summary()
    assert summary["run"]["status"] == "interrupted"
    assert summary["requests"]["completed"] == len(shell.results())
    assert_it_continues(shell, config, 60)
    assert simulator.stats()["executed"] == 60
