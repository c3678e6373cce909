"""Mistakes of a user and of a network: one clear message, the right exit code, and nothing is left behind."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from runner.cli import main
from tests.commands.here import KEY, Here
from tests.processes import Shell, Simulate
from tests.stub_service import Exchange, stub_service

JSONL = "name: t\nrequest: {model: m}\nsource: {type: jsonl, path: rows.jsonl}\n"
BAD_INPUT: dict[str, tuple[str, str | None, str]] = {
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
    "a key in the config": (
        f"name: t\nrequest: {{model: m, metadata: {{token: {KEY}}}}}\n",
        "",
        r"config\.yaml: the API key itself is in the config",
    ),
    "more workers than posts at once": (
        "name: t\nrequest: {model: m}\nsubmit: {concurrency: 20}\nengine: {workers: 30}\n",
        "",
        r"engine\.workers \(30\) is more than submit\.concurrency \(20\)",
    ),
    "a budget without prices": (
        "name: t\nrequest: {model: m}\nlimits: {max_cost_usd: 1}\n",
        "",
        r"limits\.max_cost_usd needs prices",
    ),
}


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_reported_with_exit_2_and_leaves_nothing(
    here: Here, capfd: pytest.CaptureFixture[str], command: str, case: str
) -> None:
    config, rows, pattern = BAD_INPUT[case]
    Path("config.yaml").write_text(config)
    if rows:
        Path("rows.jsonl").write_text(rows)
    assert main([command, "config.yaml"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.search(pattern, err), err
    assert KEY not in err
    assert not Path("runs").exists()
    assert here.fake.exchanges == []


@pytest.mark.parametrize("transport", ["aiohttp", "openai"])
def test_an_address_where_nobody_listens_is_reported_once_with_exit_3(shell: Shell, transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    done = shell("run", shell.config(target={"base_url": address, "transport": transport}))
    assert done.returncode == 3
    assert done.stderr.count("no Responses API answers there") == 1
    assert address in done.stderr
    assert shell.summary()["requests"]["unsent"] == 50


def test_an_address_that_is_no_responses_api_stops_before_a_second_row(
    simulate: Simulate, shell: Shell
) -> None:
    def not_found(exchange: Exchange) -> None:
        exchange.answer(404, b"<h1>no</h1>\r\n")

    with stub_service(submit=not_found) as service:
        done = shell("run", shell.config(target={"base_url": service.base_url}))
        assert done.returncode == 3, done.stderr
        assert service.posts == 1
    simulator = simulate()
    wrong = simulator.base_url.replace("/v1", "/nothing/here")
    assert shell("run", shell.config(name="other", target={"base_url": wrong})).returncode in (1, 3)
    assert simulator.stats()["executed"] == 0


def test_one_rejected_row_has_the_message_of_the_service(simulate: Simulate, shell: Shell) -> None:
    rows = [{"custom_id": f"r{i}", "input": "hello"} for i in range(5)]
    rows[3]["temperature"] = "17"
    (shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = shell.config(
        target={"base_url": simulate().base_url},
        source={"type": "jsonl", "path": "rows.jsonl", "count": None},
    )
    assert shell("run", config).returncode == 1
    by_id = {line["custom_id"]: line for line in shell.results()}
    assert {custom_id: line["status"] for custom_id, line in by_id.items()} == {
        "r0": "completed", "r1": "completed", "r2": "completed", "r3": "rejected", "r4": "completed",
    }  # fmt: skip
    error = by_id["r3"]["error"]
    assert error["status_code"] == 400
    assert "temperature" in error["message"]
    assert by_id["r3"]["timing"]["accepted"] is None


def test_jobs_that_do_not_end_completed_keep_their_status(simulate: Simulate, shell: Shell) -> None:
    outcomes = {"failed": 0.25, "incomplete": 0.25, "cancelled": 0.25, "expired": 0.25}
    simulator = simulate(outcomes=outcomes)
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 80})
    assert shell("run", config).returncode == 1
    assert set(shell.statuses()) == set(outcomes)
    for line in shell.results():
        assert line["error"]["message"]
        assert line["response"]["body"]["id"].startswith("resp_")


def test_the_key_appears_in_no_file_line_or_error_even_if_the_service_echoes_it(
    simulate: Simulate, shell: Shell
) -> None:
    received: list[str] = []

    def echo(exchange: Exchange) -> None:
        received.append(exchange.headers["Authorization"])
        exchange.fail(400, f"you sent {received[-1]}")

    assert shell("run", shell.config(target={"base_url": simulate().base_url})).returncode == 0
    with stub_service(submit=echo) as service:
        config = shell.config(name="echo", target={"base_url": service.base_url}, source={"count": 3})
        done = shell("run", config)
    assert done.returncode == 1
    assert all(KEY in header for header in received)
    assert "[API key]" in shell.results("echo")[0]["error"]["message"]
    assert KEY not in done.stdout + done.stderr
    for path in (shell.cwd / "runs").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
