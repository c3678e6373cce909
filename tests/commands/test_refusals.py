"""Mistakes of a user and of a network: one clear message, the right exit code, nothing sent."""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Shell, Simulator

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test-3f9a1c7e5b"


def write(shell, text):
    path = shell.cwd / "config.yaml"
    path.write_text(text)
    return path


JSONL = "name: t\nrequest: {model: m}\nsource: {type: jsonl, path: rows.jsonl}\n"
BAD_INPUT = {
    "an unknown key": (
        "name: t\nrequest: {model: m}\nsubmit: {concurency: 3}\n",
        "",
        r":3: unknown key submit\.concurency \(did you mean submit\.concurrency\?\)",
    ),
    "several wrong values": (
        "name: t\nsubmit: {concurrency: 0}\npoll: {factor: x}\n",
        "",
        r"config\.yaml:2: submit\.concurrency[^\n]*\n[^\n]*config\.yaml:3: poll\.factor",
    ),
    "broken YAML": ("name: [t\n", "", r"config\.yaml:2: is not YAML"),
    "a missing input file": (JSONL, None, r"rows\.jsonl: there is no such input file"),
    "a torn line": (JSONL, '{"input": "a"}\n{"input": "b', r"rows\.jsonl:2: is not JSON"),
    "a duplicate id": (
        JSONL,
        '{"input": "a", "custom_id": "x"}\n\n{"input": "b", "custom_id": "x"}\n',
        r"rows\.jsonl:3: custom_id 'x' is already used by rows\.jsonl:1",
    ),
    "an unknown field": (
        "name: t\nrequest: {model: m}\nsource: {prompt: 'About {{ topic }}'}\n",
        "",
        r"source\.prompt: 'topic' is undefined",
    ),
    "a row that fails late": (
        "name: t\nrequest: {model: m}\nsource: {prompt: '{{ 1 // (i - 7) }}'}\n",
        "",
        r"row 7: source\.prompt: ZeroDivisionError",
    ),
    "no model": ("name: t\n", "", r"has no model"),
    "an unset variable": (
        "name: ${UNSET_NAME_HERE}\nrequest: {model: m}\n",
        "",
        r":1: name needs the environment variable UNSET_NAME_HERE",
    ),
}


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_told_once_with_exit_2_and_leaves_nothing(shell: Shell, command: str, case: Any) -> None:
    config, rows, pattern = BAD_INPUT[case]
    if rows:
        (shell.cwd / "rows.jsonl").write_text(rows)
    done = shell(command, write(shell, config))
    assert done.returncode == 2, done.stderr
    assert re.search(pattern, done.stderr), done.stderr
    assert not done.stdout
    assert not (shell.cwd / "runs").exists()


def test_a_missing_config_file_is_told(shell: Shell) -> None:
    done = shell("run", "nowhere.yaml")
    assert (done.returncode, done.stderr) == (2, "runner: nowhere.yaml: there is no such config file\n")


def test_a_missing_key_variable_is_named_and_nothing_is_sent(shell: Shell) -> None:
    shell.environ["SAIL_API_KEY"] = ""
    done = shell("run", shell.config(target={"base_url": "http://127.0.0.1:9"}))
    assert done.returncode == 2
    assert "the environment variable SAIL_API_KEY with the API key is not set" in done.stderr
    assert not (shell.cwd / "runs").exists()


def test_a_refused_key_stops_the_run_with_exit_3_said_once(
    simulate: Callable[..., Simulator], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMULATOR_KEY", "the-right-one")
    simulator = simulate(api_key_env="SIMULATOR_KEY")
    done = shell("run", shell.config(target={"base_url": simulator.base_url}, source={"count": 1000}))
    assert done.returncode == 3
    assert done.stderr.count("the service refuses the API key") == 1
    assert simulator.stats()["posts"] == 1
    assert shell.results() == []


def test_a_key_refused_half_way_keeps_what_is_done_and_continues_with_the_key_again(
    simulate: Callable[..., Simulator], shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SIMULATOR_KEY", KEY)
    state = tmp_path / "state.jsonl"
    first = simulate(api_key_env="SIMULATOR_KEY", state=state, latency={"type": "constant", "mean_s": 0.3})
    port = int(first.base_url.rsplit(":", 1)[1].split("/")[0])
    config = shell.config(
        target={"base_url": first.base_url}, source={"count": 300}, submit={"max_in_flight": 30}
    )
    process = shell.start("run", config)
    path = shell.cwd / "runs/t/results.jsonl"
    while not path.exists() or path.stat().st_size == 0:
        assert process.poll() is None
    first.stop()
    monkeypatch.setenv("SIMULATOR_KEY", "rotated-in-between")
    second = simulate(api_key_env="SIMULATOR_KEY", state=state, port=port)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert errors.count("the service refuses the API key") == 1
    second.stop()
    monkeypatch.setenv("SIMULATOR_KEY", KEY)
    third = simulate(api_key_env="SIMULATOR_KEY", state=state, port=port)
    assert shell("run", config).returncode == 0
    assert sorted(line["row"] for line in shell.results()) == list(range(300))
    assert third.stats()["accepted"] == 300


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_nobody_listening_is_told_once_with_exit_3(shell: Shell, transport: str) -> None:
    address = f"http://127.0.0.1:{free_port()}/v1"
    done = shell("run", shell.config(target={"base_url": address, "transport": transport}))
    assert done.returncode == 3
    assert done.stderr.count("no Responses API answers there") == 1
    assert address in done.stderr
    assert shell.summary()["requests"]["unsent"] == 50


def test_an_address_that_is_no_responses_api_stops_before_a_second_row(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    wrong = simulator.base_url.replace("/v1", "/nothing/here")
    with serve_canned(b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\n<h1>no</h1>\r\n") as (
        address,
        seen,
    ):
        done = shell("run", shell.config(target={"base_url": address}))
        assert done.returncode == 3, done.stderr
        assert len(seen) == 1
    assert shell("run", shell.config(name="other", target={"base_url": wrong})).returncode in (1, 3)
    assert simulator.stats()["executed"] == 0


def test_one_rejected_row_ends_with_the_services_own_message_and_exit_1(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    rows = [{"custom_id": f"r{i}", "input": "hello"} for i in range(5)]
    rows[3]["temperature"] = 17
    (shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"type": "jsonl", "path": "rows.jsonl", "count": None}
    )
    done = shell("run", config)
    assert done.returncode == 1
    by_id = {line["custom_id"]: line for line in shell.results()}
    assert {cid: line["status"] for cid, line in by_id.items()} == {
        "r0": "completed", "r1": "completed", "r2": "completed", "r3": "rejected", "r4": "completed",
    }  # fmt: skip
    error = by_id["r3"]["error"]
    assert error["status_code"] == 400
    assert "temperature" in error["message"]
    assert by_id["r3"]["timing"]["accepted"] is None


def test_a_rejected_first_row_is_shown_before_a_second_is_sent(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    config = shell.config(
        target={"base_url": simulator.base_url},
        request={"model": "m", "metadata": {"completion_window": "tomorrow"}},
        source={"count": 3},
    )
    done = shell("run", config)
    assert done.returncode == 1
    assert done.stderr.count("the first request was rejected") == 1
    assert "tomorrow" in done.stderr
    assert {line["status"] for line in shell.results()} == {"rejected"}


def test_jobs_that_do_not_end_completed_keep_their_status_and_exit_1(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(outcomes={"failed": 0.25, "incomplete": 0.25, "cancelled": 0.25, "expired": 0.25})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 80})
    assert shell("run", config).returncode == 1
    statuses = {line["status"] for line in shell.results()}
    assert statuses == {"failed", "incomplete", "cancelled", "expired"}
    for line in shell.results():
        assert line["error"]["message"]
        assert line["response"]["body"]["id"].startswith("resp_")


def test_a_job_that_never_ends_expires_at_its_deadline(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 3600})
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 3}, poll={"deadline_s": 0.5}
    )
    assert shell("run", config).returncode == 1
    for line in shell.results():
        assert line["status"] == "expired"
        assert line["error"]["type"] == "deadline"


def test_a_job_that_the_service_forgot_expires(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate(faults={"get": {"404": 1.0}})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 3})
    assert shell("run", config).returncode == 1
    assert {line["status"] for line in shell.results()} == {"expired"}


def test_without_idempotency_a_lost_acknowledgement_ends_uncertain_and_is_not_sent_again(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(faults={"post": {"lost": 0.2}})
    config = shell.config(
        target={"base_url": simulator.base_url, "idempotency_header": None}, source={"count": 100}
    )
    assert shell("run", config).returncode == 1
    statuses = [line["status"] for line in shell.results()]
    lost = simulator.stats()["faults"]["post"]["lost"]
    assert statuses.count("uncertain") == lost > 0
    assert simulator.stats()["posts"] == simulator.stats()["executed"] == 100


class serve_canned:  # noqa: N801 - reads as a function
    """A server that answers every connection with the same bytes; `seen` holds what it received."""

    def __init__(self, answer):
        self.answer = answer
        self.seen = []

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1", self.seen

    def __exit__(self, *exc):
        self.listener.close()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                head = connection.recv(1 << 16)
                self.seen.append(head)
                answer = self.answer(head) if callable(self.answer) else self.answer
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass


def echo_the_key(head):
    authorization = re.search(rb"authorization: (.*?)\r\n", head, re.IGNORECASE)[1].decode()
    body = json.dumps({"error": {"message": f"you sent {authorization}", "type": "invalid_request_error"}})
    return (
        f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    )


def test_the_key_appears_in_no_file_line_or_error_even_when_the_service_echoes_it(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    assert shell("run", shell.config(target={"base_url": simulator.base_url})).returncode == 0
    with serve_canned(echo_the_key) as (address, seen):
        done = shell("run", shell.config(name="echo", target={"base_url": address}, source={"count": 3}))
    assert done.returncode == 1
    assert any(KEY.encode() in head for head in seen), "the stub did get the key"
    assert "[API key]" in shell.results("echo")[0]["error"]["message"]
    assert KEY not in done.stdout + done.stderr
    for path in (shell.cwd / "runs").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_key_written_into_the_config_is_refused(shell: Shell) -> None:
    config = shell.config(request={"model": "m", "metadata": {"token": KEY}})
    done = shell("run", config)
    assert done.returncode == 2
    assert KEY not in done.stderr
    assert not (shell.cwd / "runs").exists()


def test_ctrl_c_while_the_input_is_read_ends_with_130_and_nothing_sent(shell: Shell) -> None:
    fifo = shell.cwd / "rows.jsonl"
    os.mkfifo(fifo)
    link = shell.cwd / "config.yaml"
    link.write_text(JSONL + "target: {base_url: 'http://127.0.0.1:9'}\n")
    fifo.unlink()
    fifo.write_text('{"input": "x"}\n' * 400_000)
    process = shell.start("run", link)
    # The survey's spill file shows that rows are being read.
    fd_dir = Path(f"/proc/{process.pid}/fd")
    while process.poll() is None and not any("rows.jsonl" in read_link(fd) for fd in fd_dir.iterdir()):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert not (shell.cwd / "runs").exists()


def read_link(path):
    try:
        return str(path.readlink())
    except OSError:
        return ""
