"""Runs in batch mode that were killed, or whose files a power cut left behind the times."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest

from tests.processes import Shell, Simulator


@pytest.fixture
def configured(shell: Shell):
    """A config of batch mode with small limits; sections are merged."""

    def write(base_url, **sections):
        defaults = {
            "target": {"base_url": base_url, "mode": "batch"},
            "source": {"count": 10},
            "limits": {"max_outage_s": 6},
        }
        for name, section in sections.items():
            defaults[name] = {**defaults.get(name, {}), **section}
        return shell.config(**defaults)

    return write


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def rewind(shell, journal, results):
    """Leave of a complete run only the lines of its files of which the predicates hold."""
    run = shell.cwd / "runs/t"
    for name, keep in (("journal.jsonl", journal), ("results.jsonl", results)):
        (run / name).write_bytes(b"".join(line for line in lines_of(run / name) if keep(json.loads(line))))
    (run / "summary.json").unlink()


def is_no(event):
    return lambda entry: entry["event"] != event


def is_first_of(event):
    """Of this kind, or the mark of the first session; nothing of other batches."""
    return lambda entry: entry["event"] in ("session", event) and entry.get("batch", 0) == 0


def test_an_acceptance_that_was_lost_behind_results_doubles_none_of_them(
    simulate: Callable[..., Simulator], shell: Shell, configured: Any
) -> None:
    simulator = simulate()
    config = configured(simulator.base_url)
    assert shell("run", config).returncode == 0
    rewind(shell, is_no("batch_accepted"), lambda line: line["row"] in (0, 3, 4, 9))
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(10)
    assert simulator.stats()["executed"] == 10


@pytest.mark.parametrize("listing", [True, False])
def test_a_refusal_that_was_lost_behind_its_row_doubles_nothing(
    simulate: Callable[..., Simulator], shell: Shell, configured: Any, listing: bool
) -> None:
    simulator = simulate(models=["m"], batches={"listing": listing})
    rows = [{"custom_id": f"r{i}", "params": {"input": f"{i}?"}} for i in range(6)]
    rows[2]["params"]["model"] = "unknown"
    (shell.cwd / "input.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"type": "jsonl", "path": "input.jsonl", "count": None}
    config = configured(simulator.base_url, source=source)
    assert shell("run", config).returncode == 1
    assert [line["row"] for line in shell.results() if line["status"] == "rejected"] == [2]
    rewind(shell, is_first_of("batch"), lambda line: line["row"] == 2)
    assert shell("run", config).returncode == 1
    assert Counter(line["row"] for line in shell.results()) == dict.fromkeys(range(6), 1)


def test_a_lower_limit_does_not_end_a_run_before_its_rows_because_a_batch_in_doubt_has_more(
    simulate: Callable[..., Simulator], shell: Shell, configured: Any
) -> None:
    simulator = simulate(latency={"type": "uniform", "min_s": 0, "max_s": 2})
    config = configured(simulator.base_url, source={"count": 40}, batch={"max_requests": 30})
    assert shell("run", config).returncode == 0
    rewind(shell, is_first_of("batch"), lambda _: False)
    done = shell("run", config, "--limit", "20")
    assert done.returncode == 0
    shell.assert_each_row_once(30)  # all of the batch, which is paid for
    assert shell.summary()["requests"]["total"] == 30


def test_what_a_service_that_ignores_keys_is_still_creating_is_not_sent_again(
    simulate: Callable[..., Simulator], shell: Shell, configured: Any
) -> None:
    simulator = simulate(idempotency=False, batches={"create_s": 2.5})
    config = configured(simulator.base_url, limits={"max_outage_s": 30})
    process = shell.start("run", config)
    shell.wait_for(process, lambda: simulator.stats()["batch_posts_now"] == 1)
    process.kill()
    process.communicate()
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(10)
    assert simulator.stats()["executed"] == 10


@pytest.mark.parametrize("signals", [1, 2])
def test_no_body_is_left_behind_by_an_upload_that_was_given_up(
    simulate: Callable[..., Simulator], shell: Shell, configured: Any, signals: int
) -> None:
    simulator = simulate(batches={"create_s": 60})
    config = configured(
        simulator.base_url, batch={"max_requests": 3, "concurrency": 2}, limits={"drain_s": 0.2}
    )
    process = shell.start("run", config)
    shell.wait_for(process, lambda: simulator.stats()["batch_posts_now"] == 2)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # two at once are one
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert list((shell.cwd / "runs/t").glob(".batch-*")) == []


class SlowToAcknowledge(BaseHTTPRequestHandler):
    """Takes no first POST and acknowledges no second; lists that one half a second later."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.posts += 1
            if server.posts > 1:
                batch = {"id": f"b{server.posts}", "label": body["label"], "created_at": int(time.time())}
                names = [item["custom_id"] for item in body["requests"]]
                server.batches.append((time.monotonic() + 0.5, batch, names))
        self.close_connection = True

    def do_GET(self):
        parts = self.path.partition("?")[0].split("/")[3:]
        if not parts:
            there = [batch for since, batch, _ in self.server.batches if since <= time.monotonic()]
            return self.say(there[::-1])
        names = next(names for _, batch, names in self.server.batches if batch["id"] == parts[0])
        if len(parts) == 1:
            states = {name: {"status": "COMPLETED"} for name in names}
            return self.say({"id": parts[0], "request_status": states})
        return self.say({"id": f"resp-{parts[1]}", "status": "completed", "output": []})

    def say(self, body):
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Nothing."""


@contextmanager
def slow_to_acknowledge():
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowToAcknowledge) as server:
        server.daemon_threads = True
        server.lock, server.posts, server.batches = Lock(), 0, []
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", server
        finally:
            server.shutdown()


def test_each_post_of_unknown_fate_is_looked_for_as_long_as_the_first(shell: Shell, configured: Any) -> None:
    with slow_to_acknowledge() as (base_url, server):
        config = configured(base_url, target={"idempotency_header": None})
        assert shell("run", config).returncode == 0
        assert server.posts == 2
    shell.assert_each_row_once(10)


OBSERVED = """
import os, sys
from runner.transport.direct import Direct
sync, create = os.fdatasync, Direct.create_batch
synced = {}
def fdatasync(fd):
    size = os.fstat(fd).st_size
    sync(fd)
    synced[os.readlink(f"/proc/self/fd/{fd}")] = size
async def create_batch(self, content, key):
    path = os.path.abspath("runs/t/journal.jsonl")
    with open(path, "rb") as journal:
        is_safe = key.encode() in journal.read(synced.get(path, 0))
    print("safe" if is_safe else "unsafe")
    return await create(self, content, key)
os.fdatasync, Direct.create_batch = fdatasync, create_batch
from runner.cli import main
sys.exit(main())
"""


def test_an_intent_is_on_the_disk_before_its_batch_is_sent(
    simulate: Callable[..., Simulator], shell: Shell, configured: Any
) -> None:
    """Whatever a power cut takes: the number of a batch is not given to other rows, and its key is known."""
    config = configured(simulate().base_url, batch={"max_requests": 3}, sink={"fsync_s": 60})
    done = subprocess.run(
        [sys.executable, "-c", OBSERVED, "run", str(config)],
        cwd=shell.cwd,
        env=shell.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.endswith("safe")] == ["safe"] * 4


def test_a_label_is_found_on_a_later_page(
    simulate: Callable[..., Simulator], shell: Shell, configured: Any
) -> None:
    simulator = simulate()
    config = configured(
        simulator.base_url,
        source={"count": 420},
        batch={"max_requests": 2, "max_open": 100, "concurrency": 8},
    )
    assert shell("run", config).returncode == 0
    rewind(
        shell,
        lambda entry: entry.get("batch", 0) in (0, 3) and is_no("batch_accepted")(entry),
        lambda line: line["row"] not in (0, 1, 7),
    )
    assert shell("run", config).returncode == 0
    shell.assert_each_row_once(420)
    assert simulator.stats()["executed"] == 420
