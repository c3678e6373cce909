"""Requests whose fate cannot be known: held by default, sent again only where the user says so."""

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Shell, Simulator

KEY = "sk-test-3f9a1c7e5b"
SLOW = {"type": "constant", "mean_s": 3600}


def statuses(shell):
    rows = [line["row"] for line in shell.results()]
    assert len(set(rows)) == len(rows)
    return Counter(line["status"] for line in shell.results())


def stop_with_open_jobs(shell, config, count):
    """Accept `count` jobs that do not end, and stop."""
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(count))
    process.kill()
    process.communicate()


def test_without_a_key_a_lost_acknowledgement_is_sent_again_only_when_told_to(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(faults={"post": {"lost": 0.3}})
    target = {"base_url": simulator.base_url, "idempotency_header": None}
    config = shell.config(target=target, source={"count": 60}, submit={"on_uncertain": "resend"})
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert statuses(shell) == {"completed": 60}
    stats = simulator.stats()
    assert stats["executed"] == 60 + stats["faults"]["post"]["lost"] > 60, "the price of it"


@pytest.mark.parametrize("header", ["Idempotency-Key", None])
def test_a_500_leaves_a_doubt_only_where_no_key_makes_asking_again_harmless(
    shell: Shell, stub: Callable[..., Any], header: str | None
) -> None:
    seen = set()

    def submit(handler):
        if b"number 3?" in handler.body and handler.body not in seen:
            seen.add(handler.body)
            handler.server.accepted += 1  # it crashed after the job was stored
            handler.say(500, {"error": {"message": "oops"}})
        else:
            handler.accept()

    with stub(submit=submit, status=lambda job: "completed") as (base_url, server):
        config = shell.config(
            target={"base_url": base_url, "idempotency_header": header}, source={"count": 10}
        )
        shell("run", config)
    assert statuses(shell) == ({"completed": 10} if header else {"completed": 9, "uncertain": 1})
    assert server.posts == (11 if header else 10)


@pytest.mark.parametrize("choice", ["hold", "resend"])
def test_a_job_of_an_earlier_session_that_the_service_forgot(
    simulate: Callable[..., Simulator], shell: Shell, choice: str
) -> None:
    simulator = simulate(latency=SLOW)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 30}, submit={"on_uncertain": choice}
    )
    stop_with_open_jobs(shell, config, 30)
    simulator.kill()
    restarted = simulate(port=simulator.port)  # it lost its queue and its keys
    done = shell("run", config)
    if choice == "hold":
        assert done.returncode == 1
        assert statuses(shell) == {"uncertain": 30}
        assert restarted.stats()["posts"] == 0
        for line in shell.results():
            assert line["error"]["status_code"] == 404
            assert "accepted in an earlier session" in line["error"]["message"]
    else:
        assert done.returncode == 0, done.stderr
        assert statuses(shell) == {"completed": 30}
        assert restarted.stats()["executed"] == 30


def test_a_forgotten_job_of_an_earlier_session_is_uncertain_past_its_deadline_too(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 10}, poll={"deadline_s": 0.5}
    )
    process = shell.start("run", config, "--set", "poll.deadline_s=1000")
    shell.wait_for(process, shell.has_accepted(10))
    process.kill()
    process.communicate()
    simulator.kill()
    simulate(port=simulator.port)
    assert shell("run", config).returncode == 1
    assert statuses(shell) == {"uncertain": 10}


def test_rows_of_a_file_are_found_again_for_sending_forgotten_jobs_again(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    rows = ({"custom_id": f"id-{i}", "input": f"text {i} " + "x" * 500} for i in range(3000))
    (shell.cwd / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = shell.config(
        target={"base_url": simulator.base_url},
        source={"type": "jsonl", "path": "rows.jsonl", "count": None},
        submit={"on_uncertain": "resend", "max_in_flight": 100},
    )
    stop_with_open_jobs(shell, config, 100)
    simulator.kill()
    restarted = simulate(port=simulator.port, latency={"type": "constant", "mean_s": 0.01})
    done = shell("run", config)
    assert done.returncode == 0, done.stderr
    assert statuses(shell) == {"completed": 3000}
    assert {line["custom_id"] for line in shell.results()} == {f"id-{i}" for i in range(3000)}
    assert restarted.stats()["executed"] == 3000


def test_forgotten_jobs_beyond_a_smaller_limit_are_sent_again_too(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 30}, submit={"on_uncertain": "resend"}
    )
    stop_with_open_jobs(shell, config, 30)
    simulator.kill()
    simulate(port=simulator.port)
    done = shell("run", config, "--limit", "10")
    assert done.returncode == 0, done.stderr
    assert statuses(shell) == {"completed": 30}


def test_jobs_lost_by_a_restart_during_the_run_expire_and_can_be_tried_again(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency=SLOW)
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 20})
    process = shell.start("run", config)
    shell.wait_for(process, shell.has_accepted(20))
    simulator.kill()
    simulate(port=simulator.port)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert statuses(shell) == {"expired": 20}
    assert shell("run", config, "--retry", "expired").returncode == 0
    assert statuses(shell) == {"completed": 20}


@pytest.mark.parametrize("choice", ["hold", "resend"])
def test_a_result_delivered_to_a_client_that_was_killed_and_then_forgotten(
    simulate: Callable[..., Simulator], shell: Shell, choice: str
) -> None:
    simulator = simulate(retention_s=0.2)
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 10}, submit={"on_uncertain": choice}
    )
    assert shell("run", config).returncode == 0
    lose_last_results(shell, 3)
    for job in simulator.jobs():
        wait_until_forgotten(simulator, job["id"])
    done = shell("run", config)
    if choice == "hold":
        assert done.returncode == 1
        assert statuses(shell) == {"completed": 7, "uncertain": 3}
    else:
        assert done.returncode == 0
        assert statuses(shell) == {"completed": 10}, "the key brings back the job that was paid for"
    assert simulator.stats()["executed"] == 10


def lose_last_results(shell, count):
    """As a power cut does: what was written last is gone."""
    path = shell.cwd / "runs/t/results.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-count]))


def wait_until_forgotten(simulator, job):
    request = urllib.request.Request(f"{simulator.base_url}/responses/{job}")
    request.add_header("Authorization", f"Bearer {KEY}")
    while True:
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError as gone:
            gone.close()
            return
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("shift_s", "expected"),
    [
        (-24 * 3600.0, {"uncertain": 1, "completed": 9}),
        (+24 * 3600.0, {"uncertain": 1, "completed": 9}),
        (-3600.0, {"completed": 10}),
    ],
    ids=["older than its key", "of a clock that was set back", "young enough"],
)
def test_a_request_of_unknown_fate_is_sent_again_only_while_its_key_is_known_to_live(
    simulate: Callable[..., Simulator], shell: Shell, shift_s: float, expected: dict[str, Any]
) -> None:
    simulator = simulate(faults={"post": {"hang": 1.0}})
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 10})
    process = shell.start("run", config)
    shell.wait_for(process, lambda: simulator.stats()["posts"] == 1)
    process.kill()
    process.communicate()
    simulator.kill()
    path = shell.cwd / "runs/t/journal.jsonl"
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    for entry in entries:
        entry["at"] += shift_s
    path.write_text("".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries))
    restarted = simulate(port=simulator.port)
    shell("run", config)
    assert statuses(shell) == expected
    assert restarted.stats()["executed"] == expected["completed"]


def test_a_key_that_was_used_with_other_bytes_is_no_licence_to_send_again(
    simulate: Callable[..., Simulator], shell: Shell, tmp_path: Path
) -> None:
    state = tmp_path / "state.jsonl"
    simulator = simulate(state=state)
    config = shell.config(target={"base_url": simulator.base_url}, source={"count": 5})
    assert shell("run", config).returncode == 0
    simulator.kill()
    events = [json.loads(line) for line in state.read_bytes().splitlines()]
    accepted = [event for event in events if event["event"] == "accepted"]
    hashes = [event["sha256"] for event in accepted]
    for event, other in zip(accepted, hashes[1:] + hashes[:1], strict=True):
        event["sha256"] = other
    state.write_text("".join(json.dumps(event) + "\n" for event in events))
    journal = shell.cwd / "runs/t/journal.jsonl"
    kept = [line for line in journal.read_bytes().splitlines() if b'"accepted"' not in line]
    journal.write_bytes(b"\n".join(kept) + b"\n")
    (shell.cwd / "runs/t/results.jsonl").unlink()
    simulate(port=simulator.port, state=state)
    assert shell("run", config).returncode in (1, 3)
    assert {line["status"] for line in shell.results()} == {"uncertain"}
    assert {line["error"]["type"] for line in shell.results()} == {"idempotency_error"}
