"""A signal in each phase of `runner run`: it ends soon, loses nothing, and the next run goes on."""

import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Shell, Simulator

ENDS_SOON_S = 30
"""For a process under whatever load; what it would wait out is ten times as long and more."""
NEVER_S = 3600
SIGNALS = pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
FIXED_01_S = {"type": "constant", "mean_s": 0.1}


def wait_for_line(text, process):
    """Return once the process has said a line with `text` on stderr."""
    said = ""
    while text not in said:
        said = process.stderr.readline()
        assert said, "it ended without saying so"


def ended(process, code):
    """What the process said to the end, which comes soon and with this exit code."""
    _, errors = process.communicate(timeout=ENDS_SOON_S)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert "continue with the same command" in errors
    return errors


def assert_it_goes_on(shell, config, count):
    """The same command again brings every row home, once."""
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    results = shell.results()
    assert Counter(line["row"] for line in results) == dict.fromkeys(range(count), 1)
    assert {line["status"] for line in results} == {"completed"}


def port_of(base_url):
    return int(base_url.removesuffix("/v1").rpartition(":")[2])


@contextmanager
def served(answer):
    """The address of a server that gives each request what `answer(request)` says; no connection is kept."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
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


COME_BACK = ("429 Too Many Requests\r\nRetry-After: 3000", '{"error": {"message": "come back later"}}')


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
def run_and_be_told(*arguments):
    signums.append({signum})
    return run(*arguments)
uvloop.run = run_and_be_told
"""


@SIGNALS
@pytest.mark.parametrize("command", ["run", "cancel", "batches"])
@pytest.mark.parametrize("embedded", [False, True])
def test_while_the_event_loop_starts(
    simulate: Callable[..., Simulator],
    shell: Shell,
    tmp_path: Path,
    signum: Any,
    code: Any,
    command: str,
    embedded: bool,
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": NEVER_S})
    config = shell.config(
        target={"base_url": "simulator" if embedded else simulator.base_url},
        source={"count": 5},
        simulator={"latency": {"type": "constant", "mean_s": NEVER_S}},
    )
    if command == "cancel":
        process = shell.start("run", config)
        shell.wait_for(process, shell.has_accepted(5))
        process.kill()
        process.communicate()
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(IN_THE_MIDST_OF_THE_LOOPS_START.format(signum=int(signum)))
    shell.environ["PYTHONPATH"] = f"{site}:{shell.env['PYTHONPATH']}"
    done = shell(command, shell.cwd / "runs/t" if command == "cancel" else config)
    assert done.returncode == code, done.stderr
    assert "Exception ignored" not in done.stderr
    assert simulator.stats()["posts"] == (5 if command == "cancel" and not embedded else 0)


@SIGNALS
def test_while_a_long_retry_after_is_waited_out_before_anything_was_accepted(
    simulate: Callable[..., Simulator], shell: Shell, signum: Any, code: Any
) -> None:
    with served(lambda _: COME_BACK) as address:
        config = shell.config(target={"base_url": address}, source={"count": 5})
        process = shell.start("run", config)
        wait_for_line("waiting 3000 s, as the service asks: come back later", process)
        process.send_signal(signum)
        ended(process, code)
    assert shell.summary()["requests"]["unsent"] == 5
    simulator = simulate(port=port_of(address))
    assert_it_goes_on(shell, config, 5)
    assert simulator.stats()["executed"] == 5


@SIGNALS
def test_while_a_long_retry_after_holds_up_the_polls_of_open_jobs(
    shell: Shell, signum: Any, code: Any
) -> None:
    polls = [COME_BACK]

    def answer(request):
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
        wait_for_line("waiting 3000 s", process)
        process.send_signal(signum)
        assert "1 jobs are still open at the service" in ended(process, code)
        polls.append(("200 OK", '{"id": "resp_1", "status": "completed", "output": []}'))
        assert_it_goes_on(shell, config, 1)


@SIGNALS
@pytest.mark.parametrize("signals", [1, 2])
def test_while_the_first_answer_is_waited_for(
    simulate: Callable[..., Simulator], shell: Shell, signum: Any, code: Any, signals: int
) -> None:
    silent = simulate(faults={"post": {"hang": 1.0}})
    config = shell.config(
        target={"base_url": silent.base_url, "timeout_s": NEVER_S},
        source={"count": 5},
        limits={"drain_s": 0.2 if signals == 1 else NEVER_S},
    )
    process = shell.start("run", config)
    shell.wait_for(process, lambda: silent.stats()["posts_now"] == 1)
    process.send_signal(signum)
    if signals == 2:
        wait_for_line("nothing more is sent", process)
        process.send_signal(signum)
    assert "1 requests were sent without an acknowledgement" in ended(process, code)
    silent.stop()
    simulator = simulate(port=port_of(silent.base_url))
    assert_it_goes_on(shell, config, 5)
    assert simulator.stats()["executed"] == 5


@SIGNALS
def test_while_nobody_has_ever_listened_at_the_address(
    simulate: Callable[..., Simulator], shell: Shell, signum: Any, code: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = shell.config(
        target={"base_url": f"http://127.0.0.1:{port}/v1"},
        source={"count": 5},
        submit={"retry": {"base_s": NEVER_S, "cap_s": NEVER_S}},
    )
    process = shell.start("run", config)
    journal = shell.cwd / "runs/t/journal.jsonl"
    shell.wait_for(process, lambda: journal.exists() and b'"cause":"connect"' in journal.read_bytes())
    process.send_signal(signum)
    ended(process, code)
    simulator = simulate(port=port)
    assert_it_goes_on(shell, config, 5)
    assert simulator.stats()["executed"] == 5


@SIGNALS
def test_while_a_service_that_went_away_is_tried_again_and_again(
    simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path, signum: Any, code: Any
) -> None:
    state = tmp_path / "state.jsonl"
    first = simulate(latency={"type": "constant", "mean_s": 0.5}, state=state)
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
    process.send_signal(signum)
    ended(process, code)
    assert shell.summary()["requests"]["completed"] == len(shell.results()) < 200
    second = simulate(latency=FIXED_01_S, state=state, port=port_of(first.base_url))
    assert_it_goes_on(shell, config, 200)
    assert second.stats()["accepted"] == 200


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGINT, signal.SIGTERM, 130),
        (signal.SIGTERM, signal.SIGINT, 143),
        (signal.SIGTERM, signal.SIGTERM, 143),
    ],
)
def test_a_second_signal_of_another_kind_while_polls_hang_in_the_drain(
    simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path, first: Any, second: Any, code: int
) -> None:
    """The exit code is that of the first, which began the end."""
    state = tmp_path / "state.jsonl"
    silent = simulate(faults={"get": {"hang": 1.0}}, state=state)
    config = shell.config(
        target={"base_url": silent.base_url, "timeout_s": NEVER_S},
        source={"count": 10},
        limits={"drain_s": NEVER_S},
    )
    process = shell.start("run", config)
    shell.wait_for(process, lambda: silent.stats()["gets_now"] == 10)
    process.send_signal(first)
    wait_for_line("waiting at most 3600 s for 10 open jobs", process)
    process.send_signal(second)
    assert "10 jobs are still open at the service" in ended(process, code)
    silent.stop()
    simulator = simulate(state=state, port=port_of(silent.base_url))
    assert_it_goes_on(shell, config, 10)
    assert simulator.stats()["accepted"] == 10
    assert simulator.stats()["posts"] == 0


@SIGNALS
def test_while_a_continued_run_reads_a_long_journal(
    simulate: Callable[..., Simulator], shell: Shell, signum: Any, code: Any
) -> None:
    simulator = simulate()
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 10})
    assert shell("run", config, "--limit", "5").returncode == 0
    run_dir = shell.cwd / "runs/t"
    with (run_dir / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"event":"refused","row":3,"cause":"429","at":1.0}\n' * 600_000)
    before = contents(run_dir)
    process = shell.start("run", config)
    shell.wait_for(process, lambda: "journal.jsonl" in open_files(process))
    process.send_signal(signum)
    _, errors = process.communicate(timeout=ENDS_SOON_S)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert contents(run_dir) == before
    assert_it_goes_on(shell, config, 10)
    assert simulator.stats()["executed"] == simulator.stats()["posts"] == 10


def contents(run_dir):
    """Every file of a run but its lock, which tells who held it last."""
    return {path.name: path.read_bytes() for path in run_dir.iterdir() if path.name != ".lock"}


def open_files(process):
    """The names of the files that the process has open."""
    names = set()
    with suppress(FileNotFoundError):
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                names.add(entry.readlink().name)
    return names


@SIGNALS
def test_many_signals_at_once(
    simulate: Callable[..., Simulator], shell: Shell, signum: Any, code: Any
) -> None:
    simulator = simulate(latency={"type": "bimodal", "fast_s": 0.05, "slow_s": 2, "slow_share": 0.3})
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"count": 150},
        submit={"max_in_flight": 20},
        limits={"drain_s": 0.2},
    )
    for session in range(3):
        process = shell.start("run", config)
        done = len(shell.results())
        shell.wait_for(process, shell.has_results(done + 5))
        for _ in range(5):
            process.send_signal(signum)
        ended(process, code)
        summary = shell.summary()
        assert summary["run"]["status"] == "interrupted"
        assert summary["run"]["continued"] == session
        assert summary["requests"]["completed"] == len(shell.results())
    assert_it_goes_on(shell, config, 150)
    assert simulator.stats()["executed"] == 150


@SIGNALS
def test_signals_without_end(
    simulate: Callable[..., Simulator], shell: Shell, signum: Any, code: Any
) -> None:
    """From the first result until the process is gone: whatever it does, it is asked to stop once more."""
    simulator = simulate(latency=FIXED_01_S)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 60}, submit={"max_in_flight": 5}
    )
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_results(5))
    while process.poll() is None:
        process.send_signal(signum)
    ended(process, code)
    summary = shell.summary()
    assert summary["run"]["status"] == "interrupted"
    assert summary["requests"]["completed"] == len(shell.results())
    assert_it_goes_on(shell, config, 60)
    assert simulator.stats()["executed"] == 60
